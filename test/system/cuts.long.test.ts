// No request fails while the way under a session is cut every second for a minute, by whatever cuts it, or dropped in silence, or changes its kind.
import t, { type Test } from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { type AgentProcess, runAgent } from '../harness/agent.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { type Link, startLink } from '../harness/link.ts'
import { type RunningNginx, startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { startSquid, startTinyproxy } from '../harness/proxies.ts'
import { until } from '../harness/until.ts'
import { loadOrigin, startLoad } from './load.ts'
import { HOST, visit } from './visitor.ts'

t.setTimeout(1_800_000)

/** As the issue has them. */
const LARGE_BYTES = 1_000_000_000
const CUTS = 60
const EVERY_MS = 1_000
const DROPS = 4
const DROP_EVERY_MS = 40_000
const SQUID_CUTS = 6
const SQUID_EVERY_MS = 20_000
/** A visitor waits at most as long as it takes to find a channel dead. */
const SILENCE_MS = 60_000

interface World {
  readonly gateway: GatewayProcess
  readonly nginx: RunningNginx
  readonly link: Link
  readonly join: string
  readonly target: string
}

async function startWorld(t: Test, agentsPort?: number): Promise<World> {
  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const gateway = await startGateway(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const link = await startLink(t, { target: agentsPort ?? nginx.port })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(link.port)}`)
  return { gateway, nginx, link, join, target: origin.url }
}

/** Puts the load on, does `disturb` so many times and so often, and sees that nothing failed. */
async function survives(t: Test, world: World, agent: AgentProcess, times: number, everyMs: number, disturb: (turn: number) => unknown): Promise<number> {
  const logs = (): string => `${world.gateway.logs()}\n${agent.logs()}`
  await until('it is served', async () => (await visit({ port: world.nginx.port })).status === 200, { logs })
  const load = startLoad(world.nginx.port, LARGE_BYTES)
  for (let turn = 0; turn < times; turn++) {
    const due = performance.now() + everyMs
    await disturb(turn)
    // The pace is the issue's, not a wait for something to happen.
    await until('the next turn', () => performance.now() >= due, { timeoutMs: everyMs + SILENCE_MS })
  }
  await load.stop()
  const resumes = world.gateway.events.filter((event) => event.event === 'session_resumed').length
  t.comment(`${String(resumes)} resumes survived; ${String(load.large())} large and ${String(load.small())} small exchanges`)
  t.same(load.failures, [])
  t.ok(load.large() >= 3)
  t.equal(world.gateway.events.filter((event) => event.event === 'session_began').length, 1, 'all in one session')
  return resumes
}

for (const channel of ['websocket', 'http2', 'tcp', 'sse', 'long-poll']) {
  t.test(`its ${channel} channel is reset every second for a minute`, async (t) => {
    const agentsPort = channel === 'http2' ? await freePort() : undefined
    const world = await startWorld(t, agentsPort)
    if (agentsPort !== undefined) await startNginx(t, { runDir: world.gateway.runDir, http: `server { listen 127.0.0.1:${String(agentsPort)} http2; include EDGE/postern-agents.conf; }` })
    const agent = await runAgent(t, ['http', world.target, '--channel', channel], { join: world.join })
    t.ok((await survives(t, world, agent, CUTS, EVERY_MS, () => world.link.cut())) > CUTS / 2)
  })
}

t.test('the proxy on its way is killed every second for a minute', async (t) => {
  const world = await startWorld(t)
  let proxy = await startTinyproxy(t)
  const { port } = proxy
  const agent = await runAgent(t, ['http', world.target, '--proxy', `http://127.0.0.1:${String(port)}`], { join: world.join })
  const resumes = await survives(t, world, agent, CUTS, EVERY_MS, async () => {
    await proxy.stop()
    proxy = await startTinyproxy(t, { port })
  })
  t.ok(resumes > CUTS / 2)
})

// A channel stays on its worker until that has been without requests for a while: none needs to move for it to hold.
t.test('nginx is reloaded every second for a minute', async (t) => {
  const world = await startWorld(t)
  const agent = await runAgent(t, ['http', world.target], { join: world.join })
  await survives(t, world, agent, CUTS, EVERY_MS, () => world.nginx.reload())
})

t.test('an nginx of the agents’ own is restarted every second for a minute', async (t) => {
  const port = await freePort()
  const world = await startWorld(t, port)
  const start = (): Promise<RunningNginx> => startNginx(t, { runDir: world.gateway.runDir, port, server: 'include EDGE/postern-agents.conf;' })
  let own = await start()
  const agent = await runAgent(t, ['http', world.target], { join: world.join })
  const resumes = await survives(t, world, agent, CUTS, EVERY_MS, async () => {
    await own.stop()
    own = await start()
  })
  t.ok(resumes > CUTS / 2)
})

t.test('its channels are dropped in silence every 40 s', async (t) => {
  const world = await startWorld(t)
  const agent = await runAgent(t, ['http', world.target], { join: world.join })
  const resumes = await survives(t, world, agent, DROPS, DROP_EVERY_MS, () => {
    world.link.blackHole()
    world.link.heal()
  })
  t.ok(resumes >= DROPS)
})

t.test('a squid that allows no tunnel and forbids upgrades is cut every 20 s', async (t) => {
  const world = await startWorld(t)
  const squid = await startSquid(t, { more: 'acl tunnel method CONNECT\nhttp_access deny tunnel' })
  const link = await startLink(t, { target: squid.port })
  const agent = await runAgent(t, ['http', world.target, '--proxy', `http://127.0.0.1:${String(link.port)}`], { join: world.join })
  t.ok((await survives(t, world, agent, SQUID_CUTS, SQUID_EVERY_MS, () => link.cut())) >= SQUID_CUTS)
})

/** What a network forbids, one after the other: each time another kind of channel is left. */
const FORBIDDEN: readonly (RegExp | undefined)[] = [/Upgrade: websocket/i, /Upgrade:|^PRI/i, /Upgrade:|^PRI|channel\/events/i, undefined]

t.test('the kind of its channel changes every second for a minute', async (t) => {
  const world = await startWorld(t)
  const agent = await runAgent(t, ['http', world.target], { join: world.join })
  await survives(t, world, agent, CUTS, EVERY_MS, (turn) => {
    world.link.forbid(FORBIDDEN[turn % FORBIDDEN.length])
    world.link.cut()
  })
  const kinds = new Set(world.gateway.events.filter((event) => event.event === 'session_resumed').map((event) => event.kind))
  t.ok(kinds.size >= 3, [...kinds].join())
})

// Networks and machines that fail in part: one way silent, a process that stands still, many deaths under load. Visitors get a clear error, or notice nothing.
import { readdirSync } from 'node:fs'
import t, { type Test } from 'tap'
import { type AgentProcess, startAgent } from '../harness/agent.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { type Link, startLink } from '../harness/link.ts'
import { type RunningNginx, startNginx } from '../harness/nginx.ts'
import { type Origin, startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { begin, HOST, read, visit } from './visitor.ts'

/** The defaults, some twelve times faster. */
const TIMES = { heartbeat_ms: 500, dead_after_ms: 2_000, grace_ms: 3_000 }
/** From a silence to a refusal without a wait: found dead, and the grace over. */
const AWAY_MAX_MS = TIMES.dead_after_ms + TIMES.grace_ms + 3_000
/** What a visitor of a service that is away waits at most, once that is known. */
const REFUSED_MAX_MS = 500

const BROUGHT_ABOUT = [/upstream prematurely closed|connect\(\) to unix:.* failed|recv\(\) failed|upstream timed out/]

interface World {
  readonly origin: Origin
  readonly gateway: GatewayProcess
  readonly nginx: RunningNginx
  readonly link: Link
  readonly agent: AgentProcess
  readonly join: string
  logs(): string
}

async function startWorld(t: Test, args: readonly string[] = []): Promise<World> {
  const origin = await startOrigin(t, (request, response) => {
    request.resume()
    if (request.url === '/endless') response.write('begun')
    else response.end('ok')
  })
  const gateway = await startGateway(t, { settings: TIMES })
  const nginx = await startNginx(t, { runDir: gateway.runDir, expected: BROUGHT_ABOUT })
  const link = await startLink(t, { target: nginx.port })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(link.port)}`)
  const agent = await startAgent(t, { join, target: origin.url, args })
  const world = { origin, gateway, nginx, link, agent, join, logs: () => `${gateway.logs()}\n${agent.logs()}` }
  await served(world)
  return world
}

const told = ({ gateway }: World, name: string): number => gateway.events.filter(({ event }) => event === name).length

async function served(world: World): Promise<void> {
  await until('it is served', async () => (await visit({ port: world.nginx.port })).status === 200, { logs: () => world.logs(), timeoutMs: 30_000 })
}

/** Waits until visitors are refused without a wait. */
async function away(world: World): Promise<void> {
  const quick = async (): Promise<boolean> => {
    const began = performance.now()
    return (await visit({ port: world.nginx.port })).status === 503 && performance.now() - began < REFUSED_MAX_MS
  }
  await until('visitors are refused at once', quick, { logs: () => world.logs(), timeoutMs: 2 * AWAY_MAX_MS })
}

for (const [what, towards] of [['both ways', undefined], ['towards the agent', 'near'], ['towards the gateway', 'target']] as const) {
  t.test(`a network that swallows what goes ${what}: both ends find out, visitors are refused at once, and it heals`, async (t) => {
    const world = await startWorld(t)
    world.link.blackHole(towards)
    const began = performance.now()
    await away(world)
    t.ok(performance.now() - began < AWAY_MAX_MS + REFUSED_MAX_MS)
    await until('the agent knows', () => world.agent.events.some(({ event }) => event === 'lost'), { logs: world.agent.logs })
    world.link.heal()
    await served(world)
    t.ok((await visit({ port: world.nginx.port })).complete)
  })
}

for (const channel of ['websocket', 'tcp', 'sse', 'long-poll']) {
  t.test(`an agent on ${channel} that stands still for less than the grace takes its session up again; visitors wait`, async (t) => {
    const world = await startWorld(t, ['--channel', channel])
    world.agent.signal('SIGSTOP')
    const waiting = visit({ port: world.nginx.port })
    await until('the gateway finds it gone', () => told(world, 'session_detached') > 0, { logs: () => world.logs() })
    world.agent.signal('SIGCONT')
    t.equal((await waiting).status, 200)
    t.equal(told(world, 'session_began'), 1, 'the same session')
  })
}

t.test('an agent that stands still for longer has one new session, and answers nothing of the old', async (t) => {
  const world = await startWorld(t)
  const old = begin({ port: world.nginx.port, path: '/endless' })
  old.request.on('error', () => undefined)
  old.request.end()
  const broken = read(await old.answer)
  world.agent.signal('SIGSTOP')
  await until('the session is over', () => told(world, 'session_ended') > 0, { logs: () => world.logs() })
  t.notOk((await broken).complete, 'the visitor sees that it is not all')
  world.agent.signal('SIGCONT')
  await served(world)
  t.equal(told(world, 'session_began'), 2)
  const sessions = JSON.parse(await world.gateway.command('sessions', 'list', '--json')) as unknown[]
  t.equal(sessions.length, 1, 'it is registered once')
  await until('its origin is let go of', () => world.origin.connections() <= 1, { logs: () => world.logs() })
})

t.test('a gateway that stands still longer than its agents wait has each of them once when it goes on', async (t) => {
  const world = await startWorld(t)
  process.kill(world.gateway.pid(), 'SIGSTOP')
  t.teardown(() => process.kill(world.gateway.pid(), 'SIGCONT'))
  const waiting = visit({ port: world.nginx.port })
  await until('the agent gives its session up', () => world.agent.events.filter(({ event }) => event === 'connecting').length > 1, { logs: world.agent.logs, timeoutMs: 2 * AWAY_MAX_MS })
  process.kill(world.gateway.pid(), 'SIGCONT')
  t.equal((await waiting).status, 200)
  await served(world)
  const sessions = async (): Promise<number> => (JSON.parse(await world.gateway.command('sessions', 'list', '--json')) as unknown[]).length
  await until('there is one session', async () => (await sessions()) === 1, { logs: () => world.logs() })
})

t.test('agents and gateways killed over and over: what was under way breaks in the open, and nothing is left behind', async (t) => {
  const world = await startWorld(t)
  const descriptors = (): number => readdirSync(`/proc/${String(world.gateway.pid())}/fd`).length
  let agent = world.agent
  const restart = async (): Promise<void> => {
    await agent.stop()
    agent = await startAgent(t, { join: world.join, target: world.origin.url })
    await served(world)
  }
  await restart()
  const before = descriptors()
  const endless = async (): Promise<void> => {
    const { request, answer } = begin({ port: world.nginx.port, path: '/endless' })
    request.on('error', () => undefined)
    request.end()
    const whole = read(await answer)
    await restart()
    t.notOk((await whole).complete)
  }
  for (let round = 0; round < 4; round++) await endless()
  await until('the gateway holds no more than before', () => descriptors() <= before + 2, { logs: () => world.logs() })
  await until('nor does anybody at the origin', () => world.origin.connections() <= 2, { logs: () => world.logs() })
  for (let round = 0; round < 2; round++) {
    await world.gateway.kill()
    t.equal((await visit({ port: world.nginx.port })).status, 502)
    await world.gateway.restart()
    await served(world)
  }
})

t.test('two agents of one join string both serve, and neither puts the other out', async (t) => {
  const world = await startWorld(t)
  const second = await startAgent(t, { join: world.join, target: world.origin.url })
  for (let i = 0; i < 20; i++) t.equal((await visit({ port: world.nginx.port })).status, 200)
  t.equal(told(world, 'session_began'), 2)
  t.equal(told(world, 'session_ended'), 0, 'no flapping')
  world.agent.signal('SIGTERM')
  t.equal(await world.agent.exited, 0)
  for (let i = 0; i < 20; i++) t.equal((await visit({ port: world.nginx.port })).status, 200)
  t.notOk(second.events.some(({ event }) => event === 'lost'))
})

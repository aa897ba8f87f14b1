// A session loses nothing: while its channel is cut again and again, or dropped in silence, visitors' requests go on as if nothing were.
import t, { type Test } from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { type AgentProcess, startAgent } from '../harness/agent.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { type Link, startLink } from '../harness/link.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { type Load, loadOrigin, startLoad } from './load.ts'
import { HOST, visit } from './visitor.ts'

const LARGE_BYTES = 8 * 1024 * 1024
const CUTS = 8

interface World {
  readonly gateway: GatewayProcess
  readonly agent: AgentProcess
  readonly link: Link
  readonly load: Load
  logs(): string
}

/** Everything, with a link between agent and nginx, and the load on it. */
async function startWorld(t: Test, channel: string): Promise<World> {
  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const gateway = await startGateway(t, { settings: { heartbeat_ms: 500, dead_after_ms: 15_000, grace_ms: 10_000 } })
  const http2Port = await freePort()
  const nginx = await startNginx(t, { runDir: gateway.runDir, http: `server { listen 127.0.0.1:${String(http2Port)} http2; include EDGE/postern-agents.conf; }` })
  const link = await startLink(t, { target: channel === 'http2' ? http2Port : nginx.port, seed: 11 })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(link.port)}`)
  const agent = await startAgent(t, { join, target: origin.url, args: ['--channel', channel] })
  const logs = (): string => `${gateway.logs()}\n${agent.logs()}`
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs })
  return { gateway, agent, link, load: startLoad(nginx.port, LARGE_BYTES), logs }
}

const resumes = ({ gateway }: World): number => gateway.events.filter((event) => event.event === 'session_resumed').length

async function nothingFailed(t: Test, world: World): Promise<void> {
  await world.load.stop()
  t.same(world.load.failures, [])
  t.ok(world.load.large() >= 3, `${String(world.load.large())} large and ${String(world.load.small())} small exchanges, ${String(resumes(world))} resumes`)
  t.equal(world.gateway.events.filter((event) => event.event === 'session_began').length, 1, 'all in one session')
}

for (const channel of ['websocket', 'http2', 'tcp', 'sse', 'long-poll']) {
  t.test(`nothing fails and no byte is wrong while the ${channel} channel is cut eight times`, async (t) => {
    const world = await startWorld(t, channel)
    for (let cuts = 0; cuts < CUTS; cuts++) {
      const before = resumes(world)
      world.link.cut()
      await until('another channel', () => resumes(world) > before, world)
      const small = world.load.small()
      await until('requests go on', () => world.load.small() > small + 8, world)
    }
    await nothingFailed(t, world)
  })

  t.test(`nothing fails when the ${channel} channel is dropped in silence; another is there long before the dead one is proven so`, async (t) => {
    const world = await startWorld(t, channel)
    const before = resumes(world)
    world.link.blackHole()
    world.link.heal()
    await until('another channel', () => resumes(world) > before, world)
    t.notMatch(world.agent.logs(), /nothing came for/, 'no channel was found dead yet')
    const small = world.load.small()
    await until('requests go on', () => world.load.small() > small + 8, world)
    await nothingFailed(t, world)
  })
}

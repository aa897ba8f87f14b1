// The gateway's name: looked up anew at each connect, whatever it says by then; both families are tried; a name that nobody knows is told of, a slow resolver waited for.
import t, { type Test } from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { type AgentProcess, runAgent } from '../harness/agent.ts'
import { hideHosts, isApart, leaveV6, silence, slowConnects, V6_ADDRESS } from '../harness/apart.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { type Names, startNames } from '../harness/names.ts'
import { type RunningNginx, startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { HOST, visit } from './visitor.ts'

const NAME = 'gateway.test'
const [FIRST, SECOND] = ['127.0.0.2', '127.0.0.3']
const TIMES = { heartbeat_ms: 500, dead_after_ms: 2_000, grace_ms: 10_000 }
/** Well below what an address that never answers would cost by itself. */
const QUICK_MS = 8_000

interface World {
  readonly gateway: GatewayProcess
  readonly nginx: RunningNginx
  readonly names: Names
  /** `postern http` to the name, under way. */
  agent(): Promise<AgentProcess>
  /** Resolves when visitors are served: after how many ms from now. */
  served(): Promise<number>
}

async function startWorld(t: Test): Promise<World> {
  const names = await startNames(t)
  const origin = await startOrigin(t)
  const gateway = await startGateway(t, { settings: TIMES })
  const port = await freePort()
  const listen = [FIRST, SECOND, `[${V6_ADDRESS}]`].map((address) => `listen ${address}:${String(port)};`).join(' ')
  const nginx = await startNginx(t, { runDir: gateway.runDir, http: `server { ${listen} include EDGE/postern-agents.conf; }`, expected: [/upstream timed out/] })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://${NAME}:${String(port)}`)
  let logs = gateway.logs
  return {
    gateway,
    nginx,
    names,
    agent: async () => {
      const agent = await runAgent(t, ['http', origin.url], { join, ready: false })
      logs = () => `${gateway.logs()}\n${agent.logs()}`
      return agent
    },
    served: async () => {
      const began = performance.now()
      await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs: () => logs(), timeoutMs: 40_000 })
      return performance.now() - began
    },
  }
}

if (await isApart(t, import.meta.filename)) {
  t.test('a gateway whose address changes is found at the new one, by the same session', async (t) => {
    const { gateway, names, served, agent: start } = await startWorld(t)
    names.set(NAME, FIRST)
    const agent = await start()
    await served()
    const before = names.asked(NAME)
    names.set(NAME, SECOND)
    t.teardown(silence(FIRST))
    await until('the agent has moved', () => agent.events.some(({ event }) => event === 'moved' || event === 'resumed'), { logs: agent.logs })
    await served()
    t.ok(names.asked(NAME) > before, 'it asked anew')
    t.equal(gateway.events.filter(({ event }) => event === 'session_began').length, 1)
  })

  t.test('a gateway that has an address of the newer family alone is reached', async (t) => {
    const { names, served, agent: start } = await startWorld(t)
    names.set(NAME, V6_ADDRESS)
    await start()
    t.ok((await served()) < QUICK_MS)
  })

  for (const [what, dead, others] of [['the newer', V6_ADDRESS, [FIRST]], ['the older', FIRST, [V6_ADDRESS]], ['the older, with a second address that refuses,', FIRST, [V6_ADDRESS, '127.0.0.9']]] as const) {
    t.test(`where ${what} family leads nowhere, the other is taken before long`, async (t) => {
      const { names, served, agent: start } = await startWorld(t)
      names.set(NAME, dead, ...others)
      t.teardown(silence(dead))
      await start()
      t.ok((await served()) < QUICK_MS)
    })
  }

  for (const [slow, dead] of [[FIRST, V6_ADDRESS], [V6_ADDRESS, FIRST]] as const) {
    t.test(`an address (${slow}) that is slow is waited for while another is tried that leads nowhere`, async (t) => {
      const { names, served, agent: start } = await startWorld(t)
      names.set(NAME, slow, dead)
      t.teardown(slowConnects(slow))
      t.teardown(silence(dead))
      await start()
      t.ok((await served()) < QUICK_MS)
    })
  }

  t.test('a name that nobody knows is told of, asked for again and again but not in a storm, and served once it is known', async (t) => {
    const { names, served, agent: start } = await startWorld(t)
    const agent = await start()
    const failures = (): readonly Readonly<Record<string, unknown>>[] => agent.events.filter(({ event }) => event === 'failed')
    await until('it has tried some times', () => failures().length >= 4, { logs: agent.logs })
    t.match(failures()[0], { reason: 'unreachable', detail: /gateway\.test.*nobody knows this name \(ENOTFOUND\)/ })
    t.ok(names.asked(NAME) <= failures().length + 1, `${String(names.asked(NAME))} times in ${String(failures().length)} tries`)
    names.set(NAME, FIRST)
    await served()
  })

  t.test('a resolver that takes ten seconds is waited for, and asked for one thing at a time', async (t) => {
    const { names, served, agent: start } = await startWorld(t)
    names.set(NAME, FIRST)
    names.slow(10_000)
    const agent = await start()
    await served()
    t.equal(names.mostAtOnce(), 1)
    t.notOk(agent.events.some(({ event }) => event === 'failed'))
  })

  t.test('a service at a port of the machine is found where nobody knows the name localhost', async (t) => {
    const origin = await startOrigin(t)
    const gateway = await startGateway(t, { settings: TIMES })
    const nginx = await startNginx(t, { runDir: gateway.runDir })
    const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)
    hideHosts(t)
    await startNames(t)
    await runAgent(t, ['http', String(origin.port)], { join })
    t.equal((await visit({ port: nginx.port })).status, 200, 'the service answers')
  })

  // The last: the network stays without.
  t.test('a service that is down at a port of a machine without IPv6 has refused, so that another may be asked', async (t) => {
    const gateway = await startGateway(t, { settings: TIMES })
    const nginx = await startNginx(t, { runDir: gateway.runDir })
    const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)
    leaveV6()
    await runAgent(t, ['http', String(await freePort())], { join })
    const { status, body } = await visit({ port: nginx.port })
    t.match([status, body.toString()], [502, /origin_refused/])
  })
}

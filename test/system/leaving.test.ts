// Agents of one service come and go under load: visitors get through as soon as one says that it serves, and no request fails when one leaves.
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startLink } from '../harness/link.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { loadOrigin, startLoad } from './load.ts'
import { HOST, visit } from './visitor.ts'

/** Far over what can be sent to another agent once it has begun. */
const LARGE_BYTES = 10_000_000
const LEAVES = 3

t.test('an agent that is told to leave loses nothing, neither what is under way nor what is on its way to it', async (t) => {
  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const gateway = await startGateway(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  // The longer the way, the more is on it when an agent leaves.
  const link = await startLink(t, { target: nginx.port, delayMs: 15, queueMaxBytes: 4 * 1024 * 1024 })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(link.port)}`)
  const start = (): ReturnType<typeof startAgent> => startAgent(t, { join, target: origin.url })
  let agents = [await start()]
  t.equal((await visit({ port: nginx.port, path: '/small' })).status, 200, 'it says that it serves, and it does')
  agents.push(await start())
  const loads = [startLoad(nginx.port, LARGE_BYTES), startLoad(nginx.port, LARGE_BYTES)]
  const large = (): number => loads.reduce((sum, load) => sum + load.large(), 0)
  for (let i = 0; i < LEAVES; i++) {
    const before = large()
    await until('bodies go through', () => large() > before + 3, { timeoutMs: 60_000, logs: gateway.logs })
    const [leaves, stays] = agents
    leaves!.signal('SIGTERM')
    t.equal(await leaves!.exited, 0)
    agents = [stays!, await start()]
  }
  for (const load of loads) await load.stop()
  t.same(loads.flatMap(({ failures }) => failures), [])
})

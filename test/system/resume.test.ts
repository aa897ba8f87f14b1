// A session loses nothing: while its channel is cut again and again, downloads, uploads, echoes and small requests go on as if nothing were.
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startLink } from '../harness/link.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { loadOrigin, startLoad } from './load.ts'
import { HOST, visit } from './visitor.ts'

t.setTimeout(60_000)

const LARGE_BYTES = 8 * 1024 * 1024
const CUTS = 8

for (const channel of ['websocket', 'tcp']) t.test(`nothing fails and no byte is wrong while the ${channel} channel is cut eight times`, async (t) => {
  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const gateway = await startGateway(t, { settings: { heartbeat_ms: 500, dead_after_ms: 1_500, grace_ms: 10_000 } })
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const link = await startLink(t, { target: nginx.port, seed: 11 })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(link.port)}`)
  const agent = await startAgent(t, { join, target: origin.url, args: ['--channel', channel] })
  const logs = (): string => `${gateway.logs()}\n${agent.logs()}`
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs })

  const load = startLoad(nginx.port, LARGE_BYTES)
  for (let cuts = 0; cuts < CUTS; cuts++) {
    const [small, connected] = [load.small(), link.accepted()]
    link.cut()
    await until('another channel', () => link.accepted() > connected, { logs })
    await until('requests go on', () => load.small() > small + 8, { logs })
  }
  await load.stop()
  t.same(load.failures, [])
  t.ok(load.large() >= 3 && load.small() > CUTS * 8, `${String(load.large())} large and ${String(load.small())} small exchanges over ${String(link.accepted())} channels`)
  t.equal(gateway.events.filter((event) => event.event === 'session_began').length, 1, 'all in one session')
})

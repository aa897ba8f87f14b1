// Over a network that gives on one byte at a time every kind of channel carries the same bytes, and stays.
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startLink } from '../harness/link.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { body, hashOf } from './bodies.ts'
import { HOST, visit } from './visitor.ts'

t.setTimeout(300_000)

/** There and back, at some thousand bytes a second. */
const SIZE_BYTES = 2_000

for (const channel of ['websocket', 'tcp', 'sse', 'long-poll']) {
  t.test(`the ${channel} channel, byte by byte`, async (t) => {
    const origin = await startOrigin(t, (request, response) => void request.pipe(response))
    const gateway = await startGateway(t)
    const nginx = await startNginx(t, { runDir: gateway.runDir })
    const link = await startLink(t, { target: nginx.port, pieceMaxBytes: 1 })
    const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(link.port)}`)
    const agent = await startAgent(t, { join, target: origin.url, args: ['--channel', channel] })
    const logs = (): string => `${gateway.logs()}\n${agent.logs()}`
    await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs })
    const answer = await visit({ port: nginx.port, method: 'POST', headers: ['Transfer-Encoding', 'chunked'], body: body(3, SIZE_BYTES) })
    t.equal(answer.sha256, hashOf(3, SIZE_BYTES))
    t.equal(gateway.events.filter(({ event }) => event === 'session_began').length, 1)
    t.notOk(agent.events.some(({ event }) => event === 'lost'))
  })
}

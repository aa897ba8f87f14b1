// A network that loses packets by chance: every byte comes, and no agent reconnects for it.
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { startAgent } from '../harness/agent.ts'
import { isApart, losePackets } from '../harness/apart.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { body, hashOf } from './bodies.ts'
import { HOST, visit } from './visitor.ts'

const AT_ONCE = 8
const BODY_BYTES = 512 * 1024
/** A channel over which nothing came for two seconds is replaced, and four tries of TCP take three; a storm would be one after the other. */
const LOST_MAX_COUNT = 5

if (await isApart(t, import.meta.filename)) {
  for (const [percent, channels] of [[1, ['websocket', 'long-poll']], [5, ['websocket', 'http2', 'tcp', 'sse', 'long-poll']]] as const) {
    for (const channel of channels) {
      t.test(`${String(percent)} packets of a hundred are lost under ${channel}: every body comes whole, and the session stays`, async (t) => {
        const origin = await startOrigin(t, (request, response) => void request.pipe(response))
        const gateway = await startGateway(t)
        const agents = await freePort()
        // Visitors have a port of their own, on which nothing is lost.
        const listen = channel === 'http2' ? `listen 127.0.0.1:${String(agents)} http2` : `listen 127.0.0.1:${String(agents)}`
        const nginx = await startNginx(t, { runDir: gateway.runDir, http: `server { ${listen}; include EDGE/postern-agents.conf; }` })
        const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(agents)}`)
        const loss = losePackets(agents, percent)
        t.teardown(() => loss.stop())
        const agent = await startAgent(t, { join, target: origin.url, args: ['--channel', channel] })
        const logs = (): string => `${gateway.logs()}\n${agent.logs()}`
        await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs })
        const echoes = await Promise.all(Array.from({ length: AT_ONCE }, (_, seed) =>
          visit({ port: nginx.port, method: 'POST', headers: ['Transfer-Encoding', 'chunked'], body: body(seed, BODY_BYTES) })))
        t.same(echoes.map(({ status, complete, sha256 }) => ({ status, complete, sha256 })), echoes.map((_, seed) => ({ status: 200, complete: true, sha256: hashOf(seed, BODY_BYTES) })), 'each is its own', { logs: logs() })
        t.ok(loss.lost() > 10, `${String(loss.lost())} packets were lost`)
        t.equal(gateway.events.filter(({ event }) => event === 'session_began').length, 1, 'one session', { logs: logs() })
        const reconnects = agent.events.filter(({ event }) => event === 'lost' || event === 'moved' || event === 'resumed').length
        t.ok(reconnects <= LOST_MAX_COUNT, `${String(reconnects)} reconnects`, { logs: logs() })
      })
    }
  }
}

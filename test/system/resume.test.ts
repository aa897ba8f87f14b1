// A session loses nothing: while its channel is cut again and again, downloads, uploads, streams and small requests go on as if nothing were.
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startLink } from '../harness/link.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { body, hashOf } from './bodies.ts'
import { type Answered, HOST, visit } from './visitor.ts'

t.setTimeout(60_000)

const LARGE_BYTES = 8 * 1024 * 1024
const CUTS = 8

for (const channel of ['websocket', 'tcp']) t.test(`nothing fails and no byte is wrong while the ${channel} channel is cut eight times`, async (t) => {
  const origin = await startOrigin(t, (request, response) => {
    if (request.method === 'POST') return void request.pipe(response)
    request.resume()
    if (request.url === '/large') return void body(5, LARGE_BYTES).pipe(response)
    return void response.end('ok')
  })
  const gateway = await startGateway(t, { settings: { heartbeat_ms: 500, dead_after_ms: 1_500, grace_ms: 10_000 } })
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const link = await startLink(t, { target: nginx.port, seed: 11 })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, `http://127.0.0.1:${String(link.port)}`)
  const agent = await startAgent(t, { join, target: origin.url, args: ['--channel', channel] })
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs: gateway.logs })

  const failures: string[] = []
  let stop = false
  let small = 0
  let large = 0
  const check = (what: string, answer: Answered, hash: string): void => {
    if (answer.status !== 200 || !answer.complete || answer.sha256 !== hash) failures.push(`${what}: ${String(answer.status)}, ${String(answer.bytes)} bytes, complete: ${String(answer.complete)} ${answer.body.toString().slice(0, 200)}`)
  }
  const again = async (one: () => Promise<void>): Promise<void> => {
    while (!stop) await one().catch((error: unknown) => failures.push(String(error)))
  }
  const okHash = (await visit({ port: nginx.port })).sha256
  const visitors = [
    again(async () => {
      check('download', await visit({ port: nginx.port, path: '/large' }), hashOf(5, LARGE_BYTES))
      large++
    }),
    again(async () => {
      check('echo', await visit({ port: nginx.port, method: 'POST', headers: ['Transfer-Encoding', 'chunked'], body: body(6, LARGE_BYTES) }), hashOf(6, LARGE_BYTES))
      large++
    }),
    ...Array.from({ length: 4 }, () =>
      again(async () => {
        check('small', await visit({ port: nginx.port }), okHash)
        small++
      }),
    ),
  ]
  for (let cuts = 0; cuts < CUTS; cuts++) {
    const [smallBefore, connected] = [small, link.accepted()]
    link.cut()
    await until('another channel', () => link.accepted() > connected, { logs: agent.logs })
    await until('requests go on', () => small > smallBefore + 8, { logs: () => `${gateway.logs()}\n${agent.logs()}` })
  }
  stop = true
  await Promise.all(visitors)
  t.same(failures, [])
  t.ok(large >= 2 && small > CUTS * 8, `${String(large)} large and ${String(small)} small exchanges over ${String(link.accepted())} channels`)
  t.equal(gateway.events.filter((event) => event.event === 'session_began').length, 1, 'all in one session')
})

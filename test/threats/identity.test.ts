// Threats 21 and 22: a visitor can neither say who it is, nor take away what is said of it, nor speak to a hop behind nginx.
import http2 from 'node:http2'
import t from 'tap'
import { missing } from '../harness/nginx.ts'
import { HOST, visit } from '../system/visitor.ts'
import { startWorld } from '../system/world.ts'

const IDENTITY = ['x-forwarded-for', 'x-real-ip', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port', 'forwarded'] as const
/** What a visitor might want to be taken for. */
const FORGED: readonly string[] = [
  ...['X-Forwarded-For', '6.6.6.6', 'X-Forwarded-For', '6.6.6.7', 'x-forwarded-for', '6.6.6.8', 'X-Forwarded-Proto', 'evil', 'X-Forwarded-Host', 'evil.test', 'X-Forwarded-Port', '6666', 'X-Forwarded-Server', 'evil.test'],
  ...['X-Forwarded-Ssl', 'evil', 'X-Forwarded-Prefix', '/evil', 'X-Forwarded', 'for=6.6.6.6', 'Forwarded', 'for=6.6.6.6;host=evil.test', 'X-Real-IP', '6.6.6.6', 'X-Real-Ip', '6.6.6.7'],
  ...['X_Forwarded_For', '6.6.6.6', 'x_forwarded-for', '6.6.6.6', 'X_Real_IP', '6.6.6.6', 'Postern', '1;evil', 'Postern-Agent', 'evil', 'postern_worker', 'evil', 'POSTERN-X', 'evil'],
]
const HOPS: readonly string[] = ['Keep-Alive', 'timeout=9', 'Proxy-Connection', 'close', 'Proxy-Authorization', 'Basic eA==', 'TE', 'trailers', 'Trailer', 'X-Sum']

for (const binary of ['debian', 'new'] as const) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    let rawHeaders: readonly string[] = []
    const world = await startWorld(t, {
      binary,
      // What an operator may have set, and Postern does not rely on.
      include: 'underscores_in_headers on;',
      handler: (request, response) => {
        rawHeaders = request.rawHeaders
        request.on('end', () => response.end('ok')).resume()
      },
    })
    /** All values of each name, lower-case. */
    const fields = (): Map<string, string[]> => {
      const all = new Map<string, string[]>()
      for (let i = 0; i < rawHeaders.length; i += 2) all.set(rawHeaders[i]!.toLowerCase(), [...(all.get(rawHeaders[i]!.toLowerCase()) ?? []), rawHeaders[i + 1]!])
      return all
    }
    const isTold = (t: { same(a: unknown, b: unknown, what: string): unknown; notMatch(a: string, b: RegExp, what: string): unknown }, what: string): void => {
      const all = fields()
      const told = IDENTITY.map((name) => all.get(name))
      t.same(told, [['127.0.0.1'], ['127.0.0.1'], ['http'], [HOST], ['80'], [`for=127.0.0.1;host="${HOST}";proto=http`]], what)
      t.same(all.get('via'), ['1.1 postern'], what)
      t.same(all.get('host'), [HOST], what)
      t.notMatch(rawHeaders.join('\n'), /evil|6\.6\.6\./i, what)
    }
    const doors = { 'the h1 door': [], 'the h2 door': ['Transfer-Encoding', 'chunked'] }

    for (const [door, framing] of Object.entries(doors)) {
      await t.test(`forged identity is overwritten, one hop is trusted: ${door}`, async (t) => {
        t.equal((await visit({ port: world.port, method: 'POST', headers: [...framing, ...FORGED], body: 'x' })).status, 200)
        isTold(t, door)
      })

      await t.test(`what Connection names goes, but never what is said of the visitor: ${door}`, async (t) => {
        const named = [...IDENTITY, 'Via', 'Host', 'Postern', 'Content-Length', 'Transfer-Encoding', 'Authorization', 'Cookie', 'X-Named', 'x-other']
        const headers = ['Connection', named.join(', '), 'Authorization', 'Basic eA==', 'Cookie', 'a=b', 'X-Named', '1', 'X-Other', '2', 'X-Kept', '3']
        t.equal((await visit({ port: world.port, method: 'POST', headers: [...framing, ...headers, ...FORGED], body: 'x' })).status, 200)
        isTold(t, door)
        const all = fields()
        for (const gone of ['authorization', 'cookie', 'x-named', 'x-other']) t.notOk(all.has(gone), gone)
        t.same(all.get('x-kept'), ['3'])
      })

      await t.test(`what is said to one hop stays with it, h2c never goes on: ${door}`, async (t) => {
        const headers = ['Connection', 'Upgrade, HTTP2-Settings', 'Upgrade', 'h2c', 'HTTP2-Settings', 'AAMAAABkAAQAAP__', ...HOPS]
        t.equal((await visit({ port: world.port, method: 'POST', headers: [...framing, ...headers], body: 'x' })).status, 200)
        const all = fields()
        for (const gone of ['upgrade', 'http2-settings', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'te', 'trailer']) t.notOk(all.has(gone), gone)
        isTold(t, door)
      })
    }

    await t.test('the same for a visitor of HTTP/2', async (t) => {
      const session = http2.connect(`http://127.0.0.1:${String(world.h2Port)}`)
      t.teardown(() => session.destroy())
      for (const method of ['GET', 'POST']) {
        const raw = [':method', method, ':scheme', 'http', ':path', '/', ':authority', HOST, ...FORGED.map((text, i) => (i % 2 === 0 ? text.toLowerCase() : text))]
        const stream = session.request(raw)
        stream.end(method === 'POST' ? 'x' : undefined)
        t.equal(await new Promise((resolve, reject) => stream.on('response', (head) => resolve(head[':status'])).on('error', reject).resume()), 200)
        isTold(t, method)
      }
    })
  })
}

// Threats 5 and 7: one name decides which agent is asked, what is ambiguous is refused, and the path that was checked is the path that the origin sees.
import net from 'node:net'
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { missing } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { HOST, visit } from '../system/visitor.ts'
import { startWorld } from '../system/world.ts'

const OTHER = 'other.localhost'

/** The lines between the method and the end of the head, and who is to be asked: '' nobody. */
const HEADS: readonly (readonly [string, string])[] = [
  ['/ HTTP/1.1\r\nHost: demo.localhost', 'demo'], ['/ HTTP/1.1\r\nHost: DEMO.localhost', 'demo'], ['/ HTTP/1.1\r\nHost: demo.localhost.', 'demo'], ['/ HTTP/1.1\r\nHost: demo.localhost:8080', 'demo'],
  ['/ HTTP/1.1\r\nHost:demo.localhost', 'demo'], ['/ HTTP/1.1\r\nhost:  demo.localhost ', 'demo'], ['/ HTTP/1.1\r\nHost: other.localhost', 'other'], ['http://demo.localhost/ HTTP/1.1\r\nHost: demo.localhost', 'demo'],
  ['http://other.localhost/ HTTP/1.1\r\nHost: demo.localhost', ''], ['http://demo.localhost@other.localhost/ HTTP/1.1\r\nHost: demo.localhost', ''], ['http://demo.localhost:80@other.localhost/ HTTP/1.1\r\nHost: other.localhost', ''],
  ['/ HTTP/1.1\r\nHost: demo.localhost\r\nHost: other.localhost', ''], ['/ HTTP/1.1\r\nHost: demo.localhost\r\nHost: demo.localhost', ''], ['/ HTTP/1.1\r\nHost: demo.localhost, other.localhost', ''],
  ['/ HTTP/1.1\r\nHost: demo.localhost:80@other.localhost', ''], ['/ HTTP/1.1\r\nHost: other.localhost#.demo.localhost', ''], ['/ HTTP/1.1\r\nHost: demo.localhost/other.localhost', ''],
  ['/ HTTP/1.1\r\nHost: demo.localhost other.localhost', ''], ['/ HTTP/1.1\r\nHost: demo.localhost\\other.localhost', ''], ['/ HTTP/1.1\r\nHost: demo.localhost%00', ''], ['/ HTTP/1.1\r\nHost: demo.localhost:x', ''],
  ['/ HTTP/1.1\r\nHost: demo.localhost:80:81', ''], ['/ HTTP/1.1\r\nHost: demo..localhost', ''], ['/ HTTP/1.1\r\nHost: .demo.localhost', ''], ['/ HTTP/1.1\r\nHost: demo_localhost', ''], ['/ HTTP/1.1\r\nHost: [demo.localhost]', ''],
  ['/ HTTP/1.1\r\nHost: [fe80::1%25eth0]', ''], ['/ HTTP/1.1\r\nHost: xn--demo-.localhost', ''], ['/ HTTP/1.1\r\nHost: d\xe9mo.localhost', ''], ['/ HTTP/1.1\r\nHost: unknown.localhost', ''], ['/ HTTP/1.1\r\nHost:', ''], ['/ HTTP/1.1\r\nX: y', ''],
  ['/ HTTP/1.1\r\nHost : demo.localhost', ''], ['/ HTTP/1.1\r\n Host: demo.localhost', ''], ['/ HTTP/1.1\r\nHost: demo.localhost\r\nX-Forwarded-Host: other.localhost', 'demo'], ['/ HTTP/1.1\r\nHost: demo.localhost\r\nPostern: x', 'demo'],
  ['/ HTTP/1.1\r\nHost: unknown.localhost\r\nX-Forwarded-Host: demo.localhost', ''],
  ['//other.localhost/ HTTP/1.1\r\nHost: demo.localhost', 'demo'], ['/ HTTP/1.0\r\nHost: demo.localhost', 'demo'], ['/ HTTP/1.0', ''], ['* HTTP/1.1\r\nHost: demo.localhost', ''],
]

const PATHS = [
  '/', '/a/../b', '/a/..%2fb', '/%2e%2e/x', '/a/%2E%2E/%2E%2E', '//', '//x', '/a//b', '/a/./b', '/a;x/b', '/a%3Bx', '/a\\b', '/a%5Cb', '/a%2Fb', '/a%20b', '/a+b', '/%41', '/%C3%A9', '/a?b?c', '/?', '/a??', '/a%3Fb', '/a%23b', '/a:b@c',
  '/a?x=/../y', '/a?%2e%2e', '/.hidden', '/...', '/a/.', '/a"b', '/a|b', '/a^b`{}', '/a[b]', '/~a', '/%25%32%65', '/a%0', '/A', '/a%2fB',
]

for (const binary of ['debian', 'new'] as const) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    const asked: string[] = []
    const paths: string[] = []
    const world = await startWorld(t, {
      binary,
      handler: (request, response) => {
        asked.push(`demo ${request.headers.host ?? ''}`)
        paths.push(request.url!)
        request.on('end', () => response.end('demo')).resume()
      },
    })
    const other = await startOrigin(t, (request, response) => {
      asked.push(`other ${request.headers.host ?? ''}`)
      request.on('end', () => response.end('other')).resume()
    })
    await startAgent(t, { join: await world.gateway.addAgent('agent-2', 'other', OTHER, world.nginx.url), target: other.url })
    await until('the other is served', async () => (await visit({ port: world.port, host: OTHER })).status === 200)

    await t.test('a host has one agent, which is told that host; what is ambiguous asks none', async (t) => {
      for (const [head, who] of HEADS) {
        asked.length = 0
        let text = ''
        let closed = false
        const socket = net.connect(world.port, '127.0.0.1', () => socket.write(`GET ${head}\r\nConnection: close\r\n\r\n`, 'latin1'))
        socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1'))).on('error', () => undefined).on('close', () => (closed = true))
        await until('an answer', () => closed)
        if (who === '') t.match(text, /^HTTP\/1\.1 4\d\d /, head)
        else t.match(text, new RegExp(`^HTTP/1\\.1 200 [^]*${who}`), head)
        t.same(asked.map((one) => one.replace(/:\d+$/, '')), who === '' ? [] : [`${who} ${who}.localhost`], head)
      }
    })

    for (const [door, headers] of Object.entries({ 'the h1 door': [], 'the h2 door': ['Transfer-Encoding', 'chunked'] })) {
      await t.test(`the path goes on byte for byte, or is refused: ${door}`, async (t) => {
        let refused = 0
        for (const path of PATHS) {
          paths.length = 0
          const { status } = await visit({ port: world.port, host: HOST, method: 'POST', path, headers, body: 'x' })
          if (status === 400) refused++
          t.same(paths, status === 400 ? [] : [path], `${path} ${String(status)}`)
        }
        // A path that leaves the root, and a broken percent sign: nginx's own refusals.
        t.ok(refused <= 4, `${String(refused)} were refused`)
      })
    }
  })
}

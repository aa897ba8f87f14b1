// Which door a request takes and what the gateway is told of it: the envelope, the fields that go on and those that do not.
import http2 from 'node:http2'
import net from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { get, raw, startStand } from './stand.ts'

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    const stand = await startStand(t, {
      answer: (_, response) => {
        const own = [['Date', 'Thu, 01 Jan 1970 00:00:00 GMT'], ['Server', 'origin/1'], ['Postern-Agent', 'agent-1'], ['X-Big', 'x'.repeat(12_000)]] as const
        for (const [name, value] of own) response.setHeader(name, value)
        for (const [name, value] of [['X-Accel-Redirect', '/inside'], ['X-Accel-Limit-Rate', '1'], ['X-Accel-Buffering', 'yes'], ['X-Accel-Expires', '60']] as const) response.setHeader(name, value)
        response.end('ok')
      },
    })
    stand.route('demo.test', '1 up h1 demo -\n')
    stand.route('trailers.test', '1 up h2 trailers -\n')
    stand.plain('plain.test', 'what its mode says holds')
    const nginx = await startNginx(t, {
      runDir: stand.runDir,
      binary,
      http: `server { listen unix:${stand.runDir}/h2.sock http2; include EDGE/postern-server.conf; location / { client_max_body_size 0; try_files "" @postern; } }`,
      server: 'include EDGE/postern-server.conf; include EDGE/postern-agents.conf; location / { client_max_body_size 0; try_files "" @postern; } location = /inside { internal; return 200 inside; }',
    })
    const session = http2.connect('http://demo.test', { createConnection: () => net.connect(join(stand.runDir, 'h2.sock')) })
    t.teardown(() => session.destroy())
    const post = (host: string, lines: readonly string[], body: string): ReturnType<typeof raw> =>
      raw(nginx.port, ['POST /p HTTP/1.1', `Host: ${host}`, 'Connection: close', ...lines, '', body].join('\r\n'))
    const over2 = (fields: http2.OutgoingHttpHeaders, body?: string): Promise<unknown> => new Promise((resolve, reject) => {
      const stream = session.request(fields, { endStream: body === undefined })
      stream.on('response', (head) => resolve(head[':status'])).on('error', reject).resume()
      if (body !== undefined) stream.end(body)
    })

    await t.test('the door follows from the body, the upgrade and the service', async (t) => {
      const large = 'x'.repeat(65_537)
      const sent: readonly (readonly [string, () => Promise<unknown>, 'h1' | 'h2', number])[] = [
        ['no body', () => get(nginx.port, 'demo.test'), 'h1', 0],
        ['an empty body', () => post('demo.test', ['Content-Length: 0'], ''), 'h1', 0],
        ['64 KiB', () => post('demo.test', ['Content-Length: 65536'], large.slice(1)), 'h1', 65_536],
        ['one byte more', () => post('demo.test', ['Content-Length: 65537'], large), 'h2', 65_537],
        ['chunked', () => post('demo.test', ['Transfer-Encoding: chunked'], '2\r\nhi\r\n0\r\n\r\n'), 'h2', 2],
        ['trailers', () => get(nginx.port, 'trailers.test'), 'h2', 0],
        ['an upgrade', () => get(nginx.port, 'demo.test', '/', ['Connection: keep-alive, Upgrade', 'Upgrade: websocket']), 'h1', 0],
        ['no body, on a plain route', () => get(nginx.port, 'plain.test'), 'h1', 0],
        ['no body and no Connection, on a plain route', () => over2({ ':path': '/', ':authority': 'plain.test' }), 'h1', 0],
        ['a body of unknown length, on a plain route', () => over2({ ':method': 'POST', ':authority': 'plain.test' }, 'hi'), 'h2', 2],
        ['one byte more, on a plain route', () => post('plain.test', ['Content-Length: 65537'], large), 'h2', 65_537],
        ['an upgrade, on a plain route', () => get(nginx.port, 'plain.test', '/', ['Connection: keep-alive, Upgrade', 'Upgrade: websocket']), 'h1', 0],
        ['an upgrade at a service with trailers', () => get(nginx.port, 'trailers.test', '/', ['Connection: Upgrade', 'Upgrade: websocket']), 'h1', 0],
        ['GET over HTTP/2', () => over2({ ':path': '/' }), 'h1', 0],
        ['a small body over HTTP/2', () => over2({ ':method': 'POST', 'content-length': 2 }, 'hi'), 'h1', 2],
        ['a body of unknown length over HTTP/2', () => over2({ ':method': 'POST' }, 'hi'), 'h2', 2],
      ]
      for (const [name, send, door, bytes] of sent) {
        stand.seen.length = 0
        await send()
        t.match(stand.seen, [{ door, bytes }], name)
      }
    })

    await t.test('the envelope says who asks for what', async (t) => {
      await get(nginx.port, 'DEMO.test:8080', '/a%2Fb?c=%20', ['Connection: close, X-Named', 'X-Named: 1', 'Postern: forged'])
      const seen = stand.seen.at(-1)
      t.equal(seen?.path, '/a%2Fb?c=%20', 'the path goes on as it came')
      const [version, uuid, service, address, port, scheme, authority, pid, connection, ...more] = String(seen?.fields.postern).split(';')
      t.same({ version, service, address, scheme, authority, connection, more }, {
        version: '1', service: 'demo', address: '127.0.0.1', scheme: 'http', authority: 'demo.test:8080', connection: 'close%2C%20X-Named', more: [],
      })
      t.match(uuid, /^[0-9a-f]{32}$/)
      t.match(port, /^[1-9]\d*$/)
      t.ok(nginx.logs().includes(`start worker process ${String(pid)}`), 'pid is the worker’s')
      t.equal(seen?.fields.host, 'demo.test:8080')
      t.equal(seen?.fields.connection, undefined)
    })

    await t.test('on a plain route the gateway finds the service: nginx does not read the file', async (t) => {
      await get(nginx.port, 'plain.test:81', '/', ['Connection: X-Named, Upgrade', 'Upgrade: other'])
      const { fields, door } = stand.seen.at(-1)!
      t.match(String(fields.postern), /^1;[0-9a-f]{32};;127\.0\.0\.1;\d+;http;plain\.test:81;\d+;X-Named%2C%20Upgrade$/)
      t.match({ door, upgrade: fields.upgrade, connection: fields.connection }, { door: 'h1', upgrade: 'other', connection: 'upgrade' })
      await over2({ ':path': '/', ':authority': 'plain.test' })
      t.match(String(stand.seen.at(-1)?.fields.postern), /^1;[0-9a-f]{32};;unix:;\d*;http;plain\.test;\d+;$/)
      t.equal((await get(nginx.port, 'plain.test', '/', ['Connection: close;x'])).status, 400)
    })

    await t.test('every Connection field is told, and one that is no list of names is refused', async (t) => {
      await get(nginx.port, 'demo.test', '/', ['Connection: close', 'Connection: X-Forwarded-For'])
      const told = decodeURIComponent(String(stand.seen.at(-1)?.fields.postern).split(';')[8] ?? '')
      // njs 1.0 ends such a list with a comma: an empty name, which RFC 9110 §5.6.1 has a recipient ignore.
      t.same(told.split(',').map((name) => name.trim()).filter((name) => name !== ''), ['close', 'X-Forwarded-For'])
      t.equal((await get(nginx.port, 'demo.test', '/', ['Connection: close;x'])).status, 400)
      await get(nginx.port, 'demo.test', '/', ["Connection: close, !'*"])
      t.equal(String(stand.seen.at(-1)?.fields.postern).split(';')[8], 'close%2C%20%21%27%2A')
    })

    await t.test('upgrades go on as they came, h2c and those that Connection does not name do not', async (t) => {
      const reply = await get(nginx.port, 'demo.test', '/', ['Connection: Upgrade', 'Upgrade: any/1'])
      t.equal(reply.status, 101)
      t.equal(reply.body, 'hello')
      t.match(stand.seen.at(-1)?.fields, { connection: 'upgrade', upgrade: 'any/1' })
      for (const lines of [['Connection: Upgrade, HTTP2-Settings, close', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA'], ['Connection: close', 'Upgrade: websocket']]) {
        t.equal((await get(nginx.port, 'demo.test', '/', lines)).status, 200)
        t.equal(stand.seen.at(-1)?.fields.upgrade, undefined)
        t.equal(stand.seen.at(-1)?.fields.connection, undefined)
      }
    })

    await t.test('an answer commands nginx nothing, and keeps its own Date and Server', async (t) => {
      for (const host of ['demo.test', 'trailers.test']) {
        const reply = await get(nginx.port, host)
        t.match(reply.body, /ok/, host)
        t.match(reply.fields.toLowerCase(), 'date: thu, 01 jan 1970 00:00:00 gmt')
        t.match(reply.fields.toLowerCase(), 'server: origin/1')
        t.notMatch(reply.fields, /postern-agent/i)
      }
    })

    await t.test('agents come in at their own path, with the worker and the address told', async (t) => {
      const reply = await get(nginx.port, 'anything.test', '/_postern/channel', ['Connection: Upgrade', 'Upgrade: websocket', 'Postern-Worker: 1', 'X-Forwarded-For: 9.9.9.9'])
      t.equal(reply.status, 101)
      const seen = stand.seen.at(-1)
      t.match(seen, { door: 'agents', path: '/_postern/channel', fields: { 'x-forwarded-for': '127.0.0.1', upgrade: 'websocket' } })
      t.ok(nginx.logs().includes(`start worker process ${String(seen?.fields['postern-worker'])}`))
    })
  })
}

// An exchange reaches its origin as HTTP should, and the answer comes back as it was.
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { startOrigin, startRawOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { originAt, replying } from './origins.ts'
import { ask, fieldsOf, request, send } from './scripted.ts'

/** Everything a request brought, as text lines, in order and case; then its body. */
function echo(request: http.IncomingMessage, response: http.ServerResponse): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const lines: string[] = [`${request.method ?? ''} ${request.url ?? ''}`]
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]!}: ${request.rawHeaders[i + 1]!}`)
    response.end(Buffer.from(`${lines.join('\n')}\n\n${Buffer.concat(chunks).toString('latin1')}`, 'latin1'))
  })
}

t.test('every method reaches the origin with its path as it came', async (t) => {
  const origin = originAt(t, (await startOrigin(t, echo)).port)
  for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'REPORT', 'PURGE']) {
    const { status, text } = await ask(origin, request(method, '/a/..%2fb//c;x?q=%00&y'))
    t.equal(status, '200')
    t.match(text, `${method} /a/..%2fb//c;x?q=%00&y\n`)
  }
})

t.test('request fields keep order, case and repetition; Host is what the visitor asked for', async (t) => {
  const origin = originAt(t, (await startOrigin(t, echo)).port)
  const { text } = await ask(origin, request('GET', '/', ['X-B', '1', 'x-a', '2', 'X-B', '3', '__proto__', 'x', 'Constructor', 'y', 'X-Latin', '\xe4\xff']))
  t.match(text, 'host: demo.example\n')
  t.match(text, 'X-B: 1\nx-a: 2\nX-B: 3\n__proto__: x\nConstructor: y\nX-Latin: \xe4\xff\n')
})

t.test('the Host field can be set', async (t) => {
  const origin = originAt(t, (await startOrigin(t, echo)).port, { hostHeader: 'inside.example:81' })
  t.match((await ask(origin, request('GET', '/'))).text, 'host: inside.example:81\n')
})

t.test('hop-by-hop fields, and those that Connection names, do not reach the origin', async (t) => {
  const origin = originAt(t, (await startOrigin(t, echo)).port)
  const hop = ['Connection', 'close, X-Named', 'X-Named', 'n', 'Keep-Alive', 'timeout=5', 'TE', 'trailers', 'Transfer-Encoding', 'chunked', 'Upgrade', 'h2c', 'HTTP2-Settings', 'AA',
    'Proxy-Connection', 'close', 'Proxy-Authorization', 'Basic x', 'Expect', '100-continue', 'Host', 'evil.example', 'Trailer', 'x', 'Authorization', 'Bearer y']
  const { text } = await ask(origin, request('POST', '/', hop), { body: 'abc' })
  t.notMatch(text, /x-named|keep-alive: |te: trailers|transfer-encoding|upgrade|http2-settings|proxy-|expect|evil|trailer/i)
  t.match(text, 'Authorization: Bearer y\n')
  t.match(text, 'content-length: 3\n')
})

t.test('what is no field, method or path never reaches the origin', async (t) => {
  const server = await startRawOrigin(t, () => t.fail('a connection'))
  const origin = originAt(t, server.port)
  const names = ['', ' ', 'a b', 'a:b', 'a\r\nb', 'a\0', '\xe4', ':method', '(x)']
  const values = ['a\r\nSet-Cookie: b', 'a\nb', 'a\0', '\x01', 'a\x7f', 'a\r']
  const requests = [
    ...names.map((name) => request('GET', '/', ['x', 'y', name, 'v'])),
    ...values.map((value) => request('GET', '/', ['x', value])),
    ...['G T', '', 'GET\r\n', 'CONNECT'].map((method) => request(method, '/')),
    ...['', 'x', '/ /', '/\r\n', '/\0', '*', 'http://x/'].map((path) => request('GET', path)),
    ...['1, 1', '-1', '+1', '0x1', '1.0', '', ' 1', '99999999999999999'].map((length) => request('POST', '/', ['Content-Length', length])),
    request('POST', '/', ['Content-Length', '1', 'content-length', '1']),
    [':method', 'GET', ':method', 'POST', ':path', '/', ':authority', 'x'],
    [':method', 'GET', ':path', '/', ':authority', 'x', ':unknown', 'a', ':unknown', 'a'],
    [':method', 'GET', ':path', '/', ':authority', 'a b'],
  ]
  for (const fields of requests) {
    const { failure } = await ask(origin, fields)
    t.same(failure, { code: errors.bad_request, begun: false }, JSON.stringify(fields))
  }
  t.equal(server.accepted(), 0)
})

t.test('a small answer is one frame, whatever its framing', async (t) => {
  for (const reply of ['Content-Length: 5\r\n\r\nhello', 'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n']) {
    const origin = originAt(t, (await startRawOrigin(t, replying(`HTTP/1.1 200 OK\r\n${reply}`))).port)
    const { whole, text } = await ask(origin, request('GET', '/'))
    t.ok(whole)
    t.equal(text, 'hello')
  }
})

t.test('the head of an event stream goes out at once', async (t) => {
  const server = await startRawOrigin(t, replying('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n'))
  const stream = send(originAt(t, server.port), request('GET', '/'))
  await until('the head is there', () => stream.head)
  t.notOk(stream.over)
  stream.events!.onReset(errors.cancelled, true)
  await until('the origin is left', () => server.connections() === 0)
})

t.test('answer fields keep order, case and repetition, and lose what is for one hop', async (t) => {
  const sent = ['Date: then', 'SERVER: s', 'Set-Cookie: a', 'X-Hop: x', 'set-cookie: b', 'Connection: keep-alive, X-Hop', 'Keep-Alive: timeout=9', 'X-L: \xe4', '__proto__: p', 'Content-Length: 0']
  const reply = `HTTP/1.1 203 So So\r\n${sent.join('\r\n')}\r\n\r\n`
  const { head } = await ask(originAt(t, (await startRawOrigin(t, replying(reply))).port), request('GET', '/'))
  t.same(head, [':status', '203', 'Date', 'then', 'SERVER', 's', 'Set-Cookie', 'a', 'set-cookie', 'b', 'X-L', '\xe4', '__proto__', 'p', 'Content-Length', '0'])
})

t.test('HEAD, 204 and 304 have no body but keep what they say of it', async (t) => {
  for (const [method, status] of [['HEAD', '200'], ['GET', '204'], ['GET', '304']] as const) {
    const length = status === '204' ? '' : 'Content-Length: 10\r\n'
    const answer = await ask(originAt(t, (await startRawOrigin(t, replying(`HTTP/1.1 ${status} x\r\n${length}ETag: "e"\r\n\r\n`))).port), request(method, '/'))
    t.equal(answer.status, status)
    t.ok(answer.whole)
    t.equal(answer.bytes, 0)
    t.same(fieldsOf(answer.head, 'content-length'), length === '' ? [] : ['10'])
  }
})

t.test('interim answers come before the final one', async (t) => {
  const reply = 'HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
  const { interims, status, text } = await ask(originAt(t, (await startRawOrigin(t, replying(reply))).port), request('GET', '/'))
  t.same(interims, [[':status', '103', 'Link', '</a.css>'], [':status', '102']])
  t.equal(status, '200')
  t.equal(text, 'ok')
})

t.test('trailers come with the end, without those that frame or route', async (t) => {
  const reply = 'HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\nx-t: 2\r\nHost: h\r\n\r\n'
  const { trailers, head, text } = await ask(originAt(t, (await startRawOrigin(t, replying(reply))).port), request('GET', '/'))
  t.same(trailers, ['X-T', '1', 'x-t', '2'])
  t.same(fieldsOf(head, 'trailer'), ['X-T'])
  t.equal(text, 'ok')
})

t.test('connections are kept', async (t) => {
  const server = await startOrigin(t)
  let sockets = 0
  server.server.on('connection', () => sockets++)
  const origin = originAt(t, server.port)
  for (let i = 0; i < 20; i++) await ask(origin, request('GET', `/${String(i)}`))
  t.equal(sockets, 1)
  t.equal(origin.active, 0)
})

t.test('a unix socket is an origin', { skip: process.platform === 'win32' ? 'no unix sockets here' : false }, async (t) => {
  // Not t.testdir(): the path of a unix socket has at most 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'postern-origin-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const path = join(dir, 'o.sock')
  const server = http.createServer(echo)
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.teardown(() => server.close())
  const origin = originAt(t, `unix:${path}`)
  t.match((await ask(origin, request('GET', '/u'))).text, 'GET /u\n')
  await origin.close()
})

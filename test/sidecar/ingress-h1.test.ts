// The HTTP/1.1 ingress at its socket, raw bytes against a scripted gateway library.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { NO_FIELDS } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { type Carried, get, Raw, startIngress } from './ingress-rig.ts'

const ok = (carried: Carried): void => carried.answer.head([':status', '200', 'Content-Type', 'text/plain'], Buffer.from('hello'), true)

t.test('answers follow one another on one connection, pipelined too, in one piece each', async (t) => {
  const rig = await startIngress(t, ok)
  const raw = new Raw(rig.path)
  raw.socket.write(get('/1') + get('/2') + get('/3'))
  await until('three answers', () => raw.text.split('hello').length === 4, { logs: () => raw.text })
  t.ok(raw.text.startsWith('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1'), raw.text)
  t.same(rig.carried.map(({ request }) => request.fields[7]), ['/1', '/2', '/3'])
  raw.socket.destroy()
})

t.test('heads that can be read in two ways are 400 and the last of their connection', async (t) => {
  const rig = await startIngress(t, ok)
  const heads = {
    'bare LF': get().replace('\r\nHost', '\nHost'), 'two lengths': get('/', 'Content-Length: 1\r\nContent-Length: 1\r\n'), 'list of lengths': get('/', 'Content-Length: 1, 1\r\n'),
    'signed length': get('/', 'Content-Length: +1\r\n'), 'transfer encoding': get('/', 'Transfer-Encoding: chunked\r\n'), both: get('/', 'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n'),
    'blank before colon': get('/', 'A : b\r\n'), folded: get('/', 'A: b\r\n c\r\n'), 'no colon': get('/', 'abc\r\n'), 'empty name': get('/', ': b\r\n'), nul: get('/', 'A: \0\r\n'),
    'bare CR': get('/', 'A: b\rc\r\n'), 'absolute form': get('http://a/'), 'two hosts': get('/', 'Host: b\r\n'), 'old version': get().replace('1.1', '1.0'),
    'no envelope': 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', 'two envelopes': get('/', 'Postern: x\r\n'), connect: get('/', '', 'CONNECT'), fragment: get('/#a'), 'extra blank': get('/ a'), 'h2 preface': 'PRI * HTTP/2.0\r\n\r\n',
  }
  for (const [what, head] of Object.entries(heads)) {
    const raw = new Raw(rig.path)
    raw.socket.write(head + get('/canary'))
    await until(what, () => raw.ended)
    t.match(raw.text, /^HTTP\/1\.1 400 Bad Request\r\n[^]*Connection: close\r\n/, what)
    t.equal(raw.text.split('HTTP/1.1').length, 2, what)
    raw.socket.destroy()
  }
  t.equal(rig.carried.length, 0)
})

t.test('too large a head is 431', async (t) => {
  const rig = await startIngress(t, ok)
  for (const fields of [`A: ${'x'.repeat(70_000)}\r\n`, 'A: b\r\n'.repeat(101)]) {
    const raw = new Raw(rig.path)
    raw.socket.write(get('/', fields))
    await until('refused', () => raw.ended)
    t.match(raw.text, /^HTTP\/1\.1 431 /)
    raw.socket.destroy()
  }
})

t.test('identity and hop-by-hop fields of the visitor do not pass', async (t) => {
  const rig = await startIngress(t, ok)
  const raw = new Raw(rig.path)
  raw.socket.write(get('/', 'X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6\r\npostern_x: 1\r\nPostern-Y: 1\r\nTE: trailers\r\nA: 1\r\nB: 2\r\na: 3\r\n').replace('77;\r\n', '77;close%2C%20B\r\n'))
  await until('answer', () => raw.text.includes('hello'))
  const [carried] = rig.carried
  t.same(carried!.field('x-forwarded-for'), ['192.0.2.7'])
  t.same(carried!.field('forwarded'), ['for=192.0.2.7;host="demo.localhost:8080";proto=http'])
  t.same(carried!.field('a'), ['1', '3'])
  for (const name of ['b', 'te', 'postern', 'postern_x', 'postern-y', 'host']) t.same(carried!.field(name), [], name)
  raw.socket.destroy()
})

t.test('an answer waits for the body unless it is complete', async (t) => {
  const rig = await startIngress(t, (carried) => carried.answer.head([':status', '200'], Buffer.from('a'), false))
  const raw = new Raw(rig.path)
  raw.socket.write(get('/', 'Content-Length: 4\r\n', 'POST') + 'ab')
  await until('carried', () => rig.carried.length === 1)
  t.equal(raw.text, '')
  raw.socket.write('cd')
  await until('head', () => raw.text.includes('1\r\na\r\n'))
  const [carried] = rig.carried
  t.equal(String(carried!.body), 'abcd')
  carried!.answer.data(Buffer.from('xyz'))
  carried!.answer.end(NO_FIELDS)
  await until('end', () => raw.text.endsWith('3\r\nxyz\r\n0\r\n\r\n'))
  t.equal(carried!.taken, 4)
  raw.socket.destroy()
})

t.test('an agent that breaks the rules before its head is out is 502, after it breaks the body', async (t) => {
  const bad: readonly (readonly string[])[] = [[':status', '99'], [':status', '101'], ['x', 'y'], [':status', '200', 'a', 'b\r\nSet-Cookie: c'], [':status', '200', 'a b', 'c'], [':status', '200', ':path', '/'],
    [':status', '200', 'Content-Length', '1', 'Content-Length', '1'], [':status', '200', 'Content-Length', '4'], [':status', '204'], [':status', '304']]
  let head: readonly string[] = []
  const rig = await startIngress(t, (carried) => carried.answer.head(head, Buffer.from('hello'), true))
  const raw = new Raw(rig.path)
  for (head of bad) {
    raw.text = ''
    raw.socket.write(get())
    await until('502', () => raw.text.includes('uuid: '), { logs: () => raw.text })
    t.match(raw.text, /^HTTP\/1\.1 502 Bad Gateway\r\n/, head.join())
    t.equal(rig.carried.at(-1)!.cancelled, errors.agent_protocol)
  }
  raw.socket.destroy()

  for (const [bytes, end] of [['hello', false], ['he', true]] as const) {
    const short = await startIngress(t, (carried) => carried.answer.head([':status', '200', 'Content-Length', '4'], Buffer.alloc(0), false))
    const other = new Raw(short.path)
    other.socket.write(get())
    await until('head', () => other.text.includes('\r\n\r\n'))
    short.carried[0]!.answer.data(Buffer.from(bytes))
    if (end) short.carried[0]!.answer.end(NO_FIELDS)
    await until('broken', () => other.ended)
    t.equal(short.carried[0]!.cancelled, errors.agent_protocol)
    other.socket.destroy()
  }
})

t.test('a visitor that leaves cancels the exchange; a failure after the head breaks the body', async (t) => {
  const rig = await startIngress(t, (carried) => carried.answer.head([':status', '200'], Buffer.from('a'), false))
  const raw = new Raw(rig.path)
  raw.socket.write(get())
  await until('head', () => raw.text.includes('\r\na\r\n'))
  raw.socket.destroy()
  await until('cancelled', () => rig.carried[0]!.cancelled === errors.cancelled)
  const other = new Raw(rig.path)
  other.socket.write(get())
  await until('head', () => other.text.includes('\r\na\r\n'))
  rig.carried[1]!.answer.fail(errors.origin_reset, '')
  await until('broken', () => other.ended)
  t.notMatch(other.text, /\r\n0\r\n/)
  other.socket.destroy()
})

t.test('an upgrade carries bytes both ways and keeps half-close', async (t) => {
  const rig = await startIngress(t, (carried) => carried.answer.head([':status', '101', 'Upgrade', 'echo'], Buffer.from('first'), false))
  const raw = new Raw(rig.path)
  raw.socket.write(get('/', 'Connection: upgrade\r\nUpgrade: echo\r\n') + 'early')
  await until('switched', () => raw.text.endsWith('first'))
  t.match(raw.text, /^HTTP\/1\.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst$/)
  await until('early bytes', () => String(rig.carried[0]!.body) === 'early')
  raw.socket.end('late')
  await until('half-closed', () => rig.carried[0]!.complete)
  t.equal(String(rig.carried[0]!.body), 'earlylate')
  rig.carried[0]!.answer.data(Buffer.from('still'))
  rig.carried[0]!.answer.end(NO_FIELDS)
  await until('closed', () => raw.ended)
  t.ok(raw.text.endsWith('firststill'))
  t.equal(rig.carried[0]!.cancelled, undefined)
})

for (const more of ['', 'more']) {
  t.test(`a tunnel that waits for room closes once the agent reads no more and says no more${more === '' ? '' : ', with bytes on their way'}`, async (t) => {
    const rig = await startIngress(t, (carried) => carried.answer.head([':status', '101', 'Upgrade', 'echo'], Buffer.from('first'), false))
    const raw = new Raw(rig.path)
    raw.socket.write(get('/', 'Connection: upgrade\r\nUpgrade: echo\r\n'))
    await until('switched', () => raw.text.endsWith('first'))
    const carried = rig.carried[0]!
    carried.room = false
    raw.socket.write('full')
    await until('the tunnel waits', () => String(carried.body) === 'full')
    if (more !== '') raw.socket.write(more)
    carried.room = true
    carried.answer.stopped()
    carried.answer.end(NO_FIELDS)
    await until('the end of the answer', () => raw.ended)
    const closed = new Promise((resolve) => rig.h1.server.close(resolve))
    raw.socket.end()
    t.equal(await closed, undefined, 'every connection is closed')
  })
}

t.test('a refused upgrade is the last of its connection, and bytes behind it are no request', async (t) => {
  const rig = await startIngress(t, ok)
  const raw = new Raw(rig.path)
  raw.socket.write(get('/', 'Connection: upgrade\r\nUpgrade: echo\r\n') + get('/smuggled'))
  await until('closed', () => raw.ended)
  t.equal(rig.carried.length, 1)
  t.match(raw.text, /Connection: close/)
  raw.socket.destroy()
})

t.test('a slow reader is owed no more than the socket holds, an upload waits for room', async (t) => {
  const rig = await startIngress(t, (carried) => {
    carried.room = false
    if (carried.request.fields[1] === 'GET') carried.answer.head([':status', '200'], Buffer.alloc(0), false)
  })
  const raw = new Raw(rig.path)
  raw.socket.write(get())
  await until('head', () => raw.text.includes('\r\n\r\n'))
  raw.socket.pause()
  const [carried] = rig.carried
  for (let i = 0; i < 64; i++) carried!.answer.data(Buffer.alloc(65_536))
  t.ok(carried!.taken < 64 * 65_536)
  raw.socket.resume()
  await until('all taken', () => carried!.taken === 64 * 65_536)
  raw.socket.destroy()

  const up = new Raw(rig.path)
  up.socket.write(get('/', 'Content-Length: 8000000\r\n', 'POST'))
  await until('carried', () => rig.carried.length === 2)
  up.socket.write(Buffer.alloc(8_000_000))
  await until('a first part', () => rig.carried[1]!.body.length > 0)
  t.ok(rig.carried[1]!.body.length <= 65_536)
  rig.carried[1]!.room = true
  rig.carried[1]!.answer.drain()
  await until('all', () => rig.carried[1]!.complete)
  t.equal(rig.carried[1]!.body.length, 8_000_000)
  up.socket.destroy()
})

t.test('leaving is said with the next answer, HEAD has no body', async (t) => {
  const rig = await startIngress(t, (carried) => carried.answer.head([':status', '200', 'Content-Length', '7'], Buffer.alloc(0), true))
  const raw = new Raw(rig.path)
  raw.socket.write(get('/', '', 'HEAD'))
  await until('answer', () => raw.text.endsWith('Content-Length: 7\r\n\r\n'))
  rig.h1.leave()
  raw.text = ''
  raw.socket.write(get('/', '', 'HEAD'))
  await until('closed', () => raw.ended)
  t.match(raw.text, /Connection: close/)
})

t.test('103 passes to an nginx that says it knows it, once the body is there; the agent is named', async (t) => {
  const rig = await startIngress(t, () => undefined)
  const raw = new Raw(rig.path)
  const interim = (at: number): void => {
    for (const status of ['100', '102', '103', '104']) rig.carried[at]!.answer.interim([':status', status, 'Link', '<a>', 'Connection', 'close', 'link', '<b>', 'Postern-X', '1'])
  }
  raw.socket.write(get())
  await until('carried', () => rig.carried.length === 1)
  interim(0)
  rig.carried[0]!.agent = 'agent-1'
  rig.carried[0]!.answer.head([':status', '200', 'Postern-Agent', 'forged'], Buffer.from('hello'), true)
  await until('answer', () => raw.text.endsWith('hello'))
  t.equal(raw.text, 'HTTP/1.1 200 OK\r\nPostern-Agent: agent-1\r\nContent-Length: 5\r\n\r\nhello')
  raw.text = ''
  raw.socket.write(get('/', 'Content-Length: 2\r\n', 'POST').replace('77;\r\n', '77;;103\r\n') + 'a')
  await until('carried', () => rig.carried.length === 2)
  interim(1)
  raw.socket.write('b')
  await until('body', () => rig.carried[1]!.complete)
  t.equal(raw.text, '')
  interim(1)
  await until('hint', () => raw.text.endsWith('\r\n\r\n'))
  t.equal(raw.text, 'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nlink: <b>\r\n\r\n')
  rig.carried[1]!.answer.head([':status', '204'], Buffer.alloc(0), true)
  await until('answer', () => raw.text.endsWith('HTTP/1.1 204 No Content\r\n\r\n'))
  raw.socket.destroy()
})

t.test('an envelope without a service is for that of the host, which nginx is told; of a host that has none it is 503', async (t) => {
  const rig = await startIngress(t, (carried) => carried.answer.head([':status', '204', 'Postern-Service', 'forged'], Buffer.alloc(0), true))
  const raw = new Raw(rig.path)
  const at = (authority: string): string => get().replace('demo;', ';').replace('demo.localhost:8080', authority)
  raw.socket.write(at('plain.test') + at('plain.test:8080'))
  await until('answers', () => raw.text === 'HTTP/1.1 204 No Content\r\nPostern-Service: plain\r\n\r\n'.repeat(2))
  t.same(rig.carried.map(({ request }) => request.service), ['plain', 'plain'])
  t.equal(rig.carried[1]!.field(':authority')[0], 'plain.test:8080')
  raw.socket.write(at('other.test'))
  await until('closed', () => raw.ended)
  t.match(raw.text, /HTTP\/1\.1 503 [^]*details="no_route_table"/)
  t.same([rig.carried.length, rig.reports], [2, ['no_route_table']])
})

t.test('an upload that the agent reads no more of is swallowed, and none of it goes on', async (t) => {
  const rig = await startIngress(t, (carried) => (carried.room = false))
  const raw = new Raw(rig.path)
  raw.socket.write(get('/', 'Content-Length: 4000000\r\n', 'POST'))
  raw.socket.write(Buffer.alloc(4_000_000))
  await until('some', () => (rig.carried[0]?.body.length ?? 0) > 0)
  const [carried] = rig.carried
  carried!.answer.stopped()
  await until('swallowed', () => raw.socket.writableLength === 0)
  t.ok(carried!.body.length < 200_000)
  carried!.answer.head([':status', '200'], Buffer.from('later'), true)
  await until('answer', () => raw.text.endsWith('later'))
  raw.text = ''
  raw.socket.write(get('/next'))
  await until('the next request is its own', () => rig.carried.length === 2)
  t.equal(rig.carried[1]!.request.fields[7], '/next')
  t.equal(carried!.cancelled, undefined)
  raw.socket.destroy()
})

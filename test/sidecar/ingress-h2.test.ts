// The HTTP/2 ingress at its socket, against a scripted gateway library.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type OutgoingHttpHeaders } from 'node:http2'
import { connect as dial } from 'node:net'
import t, { type Test } from 'tap'
import { errors } from '../../protocol/errors.ts'
import { NO_FIELDS } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { type Carried, ENVELOPE, startIngress } from './ingress-rig.ts'

class Asked {
  body = ''
  head: Record<string, unknown> = {}
  trailers: Record<string, unknown> = {}
  over = false
  readonly stream: ClientHttp2Stream

  constructor(session: ClientHttp2Session, fields: OutgoingHttpHeaders, endStream: boolean) {
    this.stream = session.request({ ':path': '/', ':authority': 'demo.localhost', postern: ENVELOPE, ...fields }, { endStream })
    this.stream.on('response', (head) => (this.head = head))
    this.stream.on('trailers', (trailers) => (this.trailers = trailers))
    this.stream.on('data', (chunk: Buffer) => (this.body += chunk.toString('latin1')))
    this.stream.on('close', () => (this.over = true))
    this.stream.on('error', () => {})
  }
}

async function start(t: Test, script: (carried: Carried) => void) {
  const rig = await startIngress(t, script, 'h2')
  const session = connect('http://demo.localhost', { createConnection: () => dial(rig.path) })
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  return { rig, session }
}

t.test('repeated fields and trailers pass both ways, Date is the origin\'s', async (t) => {
  const { rig, session } = await start(t, () => {})
  const asked = new Asked(session, { ':method': 'POST', a: ['1', '2'] }, false)
  asked.stream.write('body')
  await until('body', () => rig.carried[0]?.body.length === 4)
  const [carried] = rig.carried
  t.equal(carried!.field('a').join(), '1,2')
  carried!.answer.head([':status', '200', 'Set-Cookie', 'x', 'Set-Cookie', 'y', 'Date', 'then'], Buffer.from('hel'), false)
  await until('full duplex', () => asked.body === 'hel')
  asked.stream.end('more')
  await until('complete', () => carried!.complete)
  carried!.answer.data(Buffer.from('lo'))
  carried!.answer.end(['Grpc-Status', '0'])
  await until('over', () => asked.over)
  t.same([asked.body, asked.head['set-cookie'], asked.head['date'], asked.trailers['grpc-status']], ['hello', ['x', 'y'], 'then', '0'])
  t.equal(carried!.taken, 5)
  t.equal(carried!.cancelled, undefined)
})

t.test('a reset cancels, a failure resets, a rule broken is 502 and no envelope 400', async (t) => {
  const { rig, session } = await start(t, () => {})
  const left = new Asked(session, {}, true)
  await until('carried', () => rig.carried.length === 1)
  left.stream.close(constants.NGHTTP2_CANCEL)
  await until('cancelled', () => rig.carried[0]!.cancelled === errors.cancelled)

  const broken = new Asked(session, {}, true)
  await until('carried', () => rig.carried.length === 2)
  rig.carried[1]!.answer.head([':status', '200'], Buffer.from('a'), false)
  await until('head', () => broken.body === 'a')
  rig.carried[1]!.answer.fail(errors.origin_reset, '')
  await until('reset', () => broken.over)
  t.equal(broken.stream.rstCode, constants.NGHTTP2_INTERNAL_ERROR)

  const bad = new Asked(session, {}, true)
  await until('carried', () => rig.carried.length === 3)
  rig.carried[2]!.answer.head([':status', '200', 'a', 'b\r\nc: d'], Buffer.alloc(0), true)
  await until('502', () => bad.over)
  t.equal(bad.head[':status'], 502)

  const none = new Asked(session, { postern: 'x' }, true)
  await until('400', () => none.over)
  t.equal(none.head[':status'], 400)
  t.equal(rig.carried.length, 3)
})

t.test('an answer may come before the upload is read, and the rest is swallowed', async (t) => {
  const { rig, session } = await start(t, (carried) => (carried.room = false))
  const asked = new Asked(session, { ':method': 'POST' }, false)
  asked.stream.end(Buffer.alloc(4_000_000))
  await until('some', () => (rig.carried[0]?.body.length ?? 0) > 0)
  rig.carried[0]!.answer.head([':status', '413'], Buffer.from('no'), true)
  await until('over', () => asked.over)
  t.equal(asked.head[':status'], 413)
  t.equal(asked.body, 'no')
  t.ok(rig.carried[0]!.body.length < 200_000)
})

t.test('103 passes to an nginx that says it knows it; the agent is named', async (t) => {
  const { rig, session } = await start(t, () => {})
  for (const [ended, expected] of [['', []], [';103', [[103, '<a>, <b>']]]] as const) {
    const asked = new Asked(session, { postern: ENVELOPE + ended }, true)
    const hints: unknown[] = []
    asked.stream.on('headers', (head) => hints.push([head[':status'], head['link']]))
    await until('carried', () => rig.carried.at(-1)?.complete === true)
    const carried = rig.carried.pop()!
    for (const status of ['100', '102', '103', '104']) carried.answer.interim([':status', status, 'Link', '<a>', 'Connection', 'close', 'link', '<b>'])
    carried.agent = 'agent-1'
    carried.answer.head([':status', '200', 'Postern-Agent', 'forged'], Buffer.from('hello'), true)
    await until('over', () => asked.over)
    t.same(hints, expected)
    t.same([asked.body, asked.head['postern-agent']], ['hello', 'agent-1'])
  }
})

t.test('an envelope without a service is for that of the host, which nginx is told; of a host that has none it is 503', async (t) => {
  const { rig, session } = await start(t, (carried) => carried.answer.head([':status', '204', 'Postern-Service', 'forged'], Buffer.alloc(0), true))
  const ask = async (authority: string): Promise<Asked> => {
    const asked = new Asked(session, { postern: ENVELOPE.replace('demo;', ';').replace('demo.localhost:8080', authority) }, true)
    await until('over', () => asked.over)
    return asked
  }
  t.equal((await ask('plain.test:8080')).head['postern-service'], 'plain')
  t.equal(rig.carried[0]!.request.service, 'plain')
  const refused = await ask('other.test')
  t.same([refused.head[':status'], refused.head['proxy-status'], refused.head['postern-service']], [503, 'postern; error=proxy_configuration_error; details="no_route_table"', undefined])
  t.equal(rig.carried.length, 1)
})

t.test('an answer without trailers ends its stream whole, wherever its end comes', async (t) => {
  const { rig, session } = await start(t, () => {})
  for (const [what, parts] of [['with its head', 0], ['after its head', 1], ['after its body', 2]] as const) {
    const asked = new Asked(session, {}, true)
    await until('carried', () => rig.carried.at(-1)?.complete === true)
    const { answer } = rig.carried.pop()!
    answer.head([':status', '200'], Buffer.alloc(0), parts === 0)
    if (parts > 0) await until('head', () => asked.head[':status'] === 200)
    if (parts === 2) answer.data(Buffer.from('body'))
    if (parts > 0) answer.end(NO_FIELDS)
    await until('over', () => asked.over)
    t.same([asked.body, asked.stream.rstCode, asked.trailers], [parts === 2 ? 'body' : '', constants.NGHTTP2_NO_ERROR, {}], what)
  }
})

t.test('HEAD, 204 and 304 have no body, and a Content-Length only where it may be', async (t) => {
  const { rig, session } = await start(t, () => {})
  for (const [method, status, length] of [['HEAD', '200', '7'], ['GET', '204', undefined], ['GET', '304', '7']] as const) {
    const asked = new Asked(session, { ':method': method }, true)
    await until('carried', () => rig.carried.at(-1)?.complete === true)
    rig.carried.pop()!.answer.head([':status', status, 'Content-Length', '7'], Buffer.alloc(0), true)
    await until('over', () => asked.over)
    t.same([String(asked.head[':status']), asked.head['content-length'], asked.body, asked.stream.rstCode], [status, length, '', constants.NGHTTP2_NO_ERROR], `${method} ${status}`)
  }
})

t.test('request trailers pass, without what frames or is said to one hop', async (t) => {
  const { rig, session } = await start(t, () => {})
  const stream = session.request({ ':method': 'POST', ':path': '/', ':authority': 'demo.localhost', postern: ENVELOPE }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '42', 'postern-x': '1', trailer: 'x-sum', host: 'evil' }))
  stream.on('error', () => {})
  stream.end('body')
  await until('complete', () => rig.carried[0]?.complete === true)
  t.equal(String(rig.carried[0]!.body), 'body')
  t.same(rig.carried[0]!.trailers, ['x-sum', '42'])
})

t.test('a slow reader is owed no more than its window', async (t) => {
  const { rig, session } = await start(t, (carried) => carried.answer.head([':status', '200'], Buffer.alloc(0), false))
  const asked = new Asked(session, {}, true)
  asked.stream.pause()
  await until('carried', () => rig.carried.length === 1)
  const [carried] = rig.carried
  for (let i = 0; i < 64; i++) carried!.answer.data(Buffer.alloc(65_536))
  await until('what the window takes', () => carried!.taken > 0)
  // A whole turn there and back later it is still no more.
  await new Promise((resolve) => session.ping(resolve))
  t.ok(carried!.taken < 1_000_000, `${String(carried!.taken)} bytes were called taken`)
  asked.stream.resume()
  await until('all taken', () => carried!.taken === 64 * 65_536)
})

t.test('an upload that the agent reads no more of is swallowed, and none of it goes on', async (t) => {
  const { rig, session } = await start(t, (carried) => (carried.room = false))
  const asked = new Asked(session, { ':method': 'POST' }, false)
  asked.stream.end(Buffer.alloc(4_000_000))
  await until('some', () => (rig.carried[0]?.body.length ?? 0) > 0)
  const [carried] = rig.carried
  carried!.answer.stopped()
  await until('swallowed', () => asked.stream.writableFinished)
  t.ok(carried!.body.length < 200_000)
  carried!.answer.head([':status', '200'], Buffer.from('later'), true)
  await until('over', () => asked.over)
  t.same([asked.body, carried!.cancelled], ['later', undefined])
})

t.test('a visitor that leaves while its upload waits for room cancels the exchange, and what still comes of the answer harms nothing', async (t) => {
  const { rig, session } = await start(t, (carried) => (carried.room = false))
  for (const answers of [false, true]) {
    const asked = new Asked(session, { ':method': 'POST' }, false)
    asked.stream.write(Buffer.alloc(60_000))
    await until('some', () => (rig.carried.at(-1)?.body.length ?? 0) > 0)
    const carried = rig.carried.pop()!
    if (answers) {
      carried.answer.head([':status', '200'], Buffer.from('a'), false)
      await until('head', () => asked.body === 'a')
    }
    asked.stream.close(constants.NGHTTP2_CANCEL)
    await new Promise((resolve) => session.ping(resolve))
    if (carried.cancelled === undefined) {
      if (!answers) carried.answer.interim([':status', '103', 'Link', '<a>'])
      if (!answers) carried.answer.head([':status', '200'], Buffer.from('a'), false)
      carried.answer.data(Buffer.from('b'))
      carried.answer.end(['x', 'y'])
    }
    await until('cancelled', () => carried.cancelled === errors.cancelled)
  }
})

t.test('fields that Node would not repeat are repeated, and so are trailers and hints', async (t) => {
  const { rig, session } = await start(t, () => {})
  for (const name of ['Content-Type', 'ETag', 'Location', 'X-Content-Type-Options', 'Retry-After', 'Content-Language', '__proto__', 'Date', 'Set-Cookie', 'X-Own']) {
    const asked = new Asked(session, { postern: `${ENVELOPE};103` }, true)
    const values: string[] = []
    const collect = (_head: unknown, _flags: unknown, raw: string[]): void => {
      for (let i = 0; i < raw.length; i += 2) if (raw[i] === name.toLowerCase()) values.push(raw[i + 1]!)
    }
    for (const event of ['headers', 'response', 'trailers']) asked.stream.on(event, collect)
    await until('carried', () => rig.carried.at(-1)?.complete === true)
    const { answer } = rig.carried.pop()!
    answer.interim([':status', '103', name, 'a', name, 'b'])
    answer.head([':status', '200', name, 'a', name, 'b'], Buffer.from('body'), false)
    answer.end([name, 'a', name, 'b'])
    await until('over', () => asked.over)
    t.same([asked.head[':status'], asked.body, asked.stream.rstCode], [200, 'body', constants.NGHTTP2_NO_ERROR], name)
    t.equal(values.join(', '), 'a, b, a, b, a, b')
  }
})

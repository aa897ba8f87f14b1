// The doorway for agents: it tells by the first bytes what a connection carries, however they come, and whoever means no channel gains nothing by it.
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { dialHttp2 } from '../../agent/http2.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { decodeClose, encodeBeat, Kind } from '../../protocol/messages.ts'
import { until } from '../harness/until.ts'
import { answers, type Rig } from './gateway-rig.ts'
import { CONTINUATION, DATA, END_HEADERS, field, frame, HEADERS, PING, RawH2, RST_STREAM, SETTINGS, uint32 } from './h2-frames.ts'
import { start, works } from './serving-rig.ts'

const PATH = '/_postern/channel/h2'
const REQUEST = Buffer.concat([field(':method', 'POST'), field(':scheme', 'http'), field(':path', PATH), field(':authority', 'x')])

/** A message as bytes. */
const told = (message: Buffer): Buffer => Buffer.concat([Buffer.of(0, message.length >> 8, message.length & 0xff), message])

interface Talk {
  readonly socket: Socket
  received(): Buffer
  closed: boolean
}

function talk(rig: Rig): Talk {
  const socket = connect(rig.port, '127.0.0.1')
  socket.setNoDelay(true)
  let all = Buffer.alloc(0)
  const made: Talk = { socket, received: () => all, closed: false }
  socket.on('error', () => undefined)
  socket.on('data', (chunk: Buffer) => (all = Buffer.concat([all, chunk])))
  socket.once('close', () => (made.closed = true))
  return made
}

const PREFACE = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0)])
const beat = encodeBeat(false, 7)

t.test('what a connection carries is told however its bytes come', async (t) => {
  const rig = await start(t)
  const upgrade = Buffer.from('GET /_postern/channel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: postern\r\n\r\n')
  const cases: readonly (readonly [string, Buffer, (received: Buffer, closed: boolean) => boolean])[] = [
    ['messages', told(beat), (received) => received.equals(told(encodeBeat(true, 7)))],
    ['an upgrade', Buffer.concat([upgrade, told(beat)]), (received) => received.includes(told(encodeBeat(true, 7)))],
    ['HTTP/2', Buffer.concat([PREFACE, frame(HEADERS, END_HEADERS, 1, REQUEST), frame(DATA, 0, 1, told(beat))]), (received) => received.includes(told(encodeBeat(true, 7)))],
    ['a method that begins as HTTP/2 does', Buffer.from('PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n'), (received) => received.includes('HTTP/1.1 404')],
    ['the method of its preface alone', Buffer.from('PRI / HTTP/1.1\r\nHost: x\r\n\r\n'), (received, closed) => closed && received.length === 0],
  ]
  for (const [what, bytes, isRight] of cases) {
    for (const how of ['at once', 'byte by byte'] as const) {
      const one = talk(rig)
      const { socket, received } = one
      if (how === 'at once') socket.write(bytes)
      // A turn of the loop between two: each comes by itself.
      else for (const byte of bytes) await new Promise<void>((resolve) => void socket.write(Buffer.of(byte), () => setImmediate(resolve)))
      await until(`${what}, ${how}`, () => isRight(received(), one.closed), { logs: () => received().toString('latin1') })
      socket.destroy()
      t.pass(`${what}, ${how}`)
    }
  }
  await works(rig)
})

t.test('a connection that ends before it began is closed', async (t) => {
  const rig = await start(t)
  for (const bytes of ['', 'P', 'PRI * HT']) {
    const one = talk(rig)
    one.socket.end(bytes)
    await until('it is closed', () => one.closed)
    t.pass(JSON.stringify(bytes))
  }
  await works(rig)
})

t.test('of connections that ask for nothing the oldest goes when there are too many, so that who means it gets in', async (t) => {
  const rig = await start(t)
  const silent: Talk[] = []
  for (let i = 0; i < 1_030; i++) {
    const one = talk(rig)
    if (i % 2 === 0) one.socket.write('P')
    silent.push(one)
    if (i % 50 === 0) await once(one.socket, 'connect')
  }
  await until('the oldest are closed', () => silent.filter(({ closed }) => closed).length === 6)
  t.ok(silent.slice(0, 6).every(({ closed }) => closed))
  await rig.agent('a', answers(200, ''))
  await works(rig)
  for (const { socket } of silent) socket.destroy()
})

t.test('whoever drips the head of a further request is closed when it should be there', async (t) => {
  const rig = await start(t, { times: { handshakeMs: 1_000 } })
  const one = talk(rig)
  const { socket, received } = one
  socket.write('POST /_postern/channel/open HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n')
  await until('it is answered, and kept', () => received().includes('HTTP/1.1 200') && !received().includes('onnection: close'))
  socket.write('GET /_postern/channel/messages HTTP/1.1\r\nHost: x\r\n')
  const drip = setInterval(() => socket.write('X: y\r\n'), 20)
  // Be it by a reset, for a drip that nobody reads any more.
  await until('it is closed', () => one.closed)
  clearInterval(drip)
  t.notMatch(received().toString('latin1'), /HTTP[^]*HTTP/, 'there is no second answer')
  await works(rig)
})

t.test('HTTP/2 that asks for anything else is 404, and its connection ends', async (t) => {
  const rig = await start(t)
  for (const [method, path] of [['GET', PATH], ['POST', '/'], ['POST', `${PATH}?x`], ['POST', `${PATH}/`], ['POST', '/_postern/channel']] as const) {
    const session = connectHttp2(rig.url)
    const stream = session.request({ ':method': method, ':path': path })
    stream.resume().end()
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
    t.equal(headers[':status'], 404, `${method} ${path}`)
    if (!session.destroyed) await once(session, 'close')
  }
  await works(rig)
})

t.test('a stranger over HTTP/2 sends no more than a handshake takes, and is told to go when its time is over', async (t) => {
  const rig = await start(t, { times: { handshakeMs: 1_000 } })
  const dial = (): Promise<Carrier> => new Promise((resolve, reject) => {
    dialHttp2({ gateway: rig.url, userAgent: 'test' }, (outcome) => ('reason' in outcome ? reject(new Error(outcome.detail)) : resolve(outcome)))
  })
  const large = await dial()
  const cut = new Promise((resolve) => (large.onClosed = resolve))
  large.send(Buffer.alloc(20_000))
  await cut
  const silent = await dial()
  const closed = new Promise((resolve) => (silent.onClosed = resolve))
  const said: string[] = []
  silent.onMessage = (message) => said.push(message[0] === Kind.close ? decodeClose(message).code.name : 'something else')
  await closed
  t.same(said, ['handshake_timeout'])
  await works(rig)
})

const CHANNEL = frame(HEADERS, END_HEADERS, 1, REQUEST)
/** What a peer of HTTP/2 may try; each ends its connection within the time of a handshake. */
const TRIES: readonly (readonly [string, () => Iterable<Buffer>])[] = [
  ['a second request', () => [CHANNEL, frame(HEADERS, END_HEADERS, 3, REQUEST)]],
  ['streams that are opened and reset', function* () {
    for (let id = 1; id < 4_000; id += 2) yield Buffer.concat([frame(HEADERS, END_HEADERS, id, REQUEST), frame(RST_STREAM, 0, id, uint32(8))])
  }],
  ['a head without end', function* () {
    yield frame(HEADERS, 0, 1, field(':method', 'POST'))
    for (let i = 0; i < 2_000; i++) yield frame(CONTINUATION, 0, 1, field(`x-${String(i)}`, 'y'.repeat(100)))
  }],
  ['a head beyond its bound', () => [frame(HEADERS, END_HEADERS, 1, Buffer.concat([REQUEST, ...Array.from({ length: 100 }, (_value, i) => field(`x-${String(i)}`, 'y'))]))]],
  ['settings and pings without a request', function* () {
    for (let i = 0; i < 5_000; i++) yield Buffer.concat([frame(SETTINGS, 0, 0), frame(PING, 0, 0, Buffer.alloc(8))])
  }],
  ['a frame beyond its bound', () => [CHANNEL, frame(DATA, 0, 1, Buffer.alloc(100_000))]],
  ['data for no stream', () => [frame(DATA, 0, 1, Buffer.alloc(10))]],
  ['garbage behind the preface', () => [Buffer.alloc(5_000, 0xff)]],
  ['more than is granted', () => [CHANNEL, ...Array.from({ length: 300 }, () => frame(DATA, 0, 1, Buffer.alloc(16_384)))]],
]

t.test('whatever a peer of HTTP/2 tries, it loses its connection by it and nobody else does', async (t) => {
  const rig = await start(t, { times: { handshakeMs: 1_000 } })
  for (const [what, frames] of TRIES) {
    const raw = new RawH2(rig.port)
    for (const bytes of frames()) {
      if (raw.closed) break
      if (!raw.socket.write(bytes)) await until('it is read', () => raw.socket.writableLength < 65_536 || raw.closed)
    }
    await until(`it is closed: ${what}`, () => raw.closed)
    t.pass(what)
    await works(rig)
  }
  t.equal([...rig.registry.members()].length, 1)
})

// The door for agents: whatever comes in at agents.sock that is no agent harms nobody.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import type { Carrier } from '../../protocol/channel.ts'
import { decodeClose, Kind } from '../../protocol/messages.ts'
import type { Session } from '../../protocol/session.ts'
import { NO_FIELDS, type Stream, StreamKind } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { answers, events, type Rig } from './gateway-rig.ts'
import { start, works } from './serving-rig.ts'

interface Raw {
  readonly socket: Socket
  /** All that came after the head of the 101. */
  received(): Buffer
  readonly closed: Promise<unknown>
}

/** A connection is closed by a reset, too, where something came that nobody read: once() would take that for a failure. */
const closeOf = (socket: Socket): Promise<unknown> => new Promise((resolve) => socket.once('close', resolve))

/** A websocket by hand: what ws would not send can be sent. */
async function raw(rig: Rig, fields = ''): Promise<Raw> {
  const socket = connect(rig.port, '127.0.0.1')
  socket.on('error', () => {})
  const closed = closeOf(socket)
  let all = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => (all = Buffer.concat([all, chunk])))
  socket.write(`GET /_postern/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n${fields}\r\n`)
  await until('it is upgraded', () => all.includes('\r\n\r\n'))
  return { socket, received: () => all.subarray(all.indexOf('\r\n\r\n') + 4), closed }
}

/** A frame as a client sends it, under a mask of zeros. */
function frame(first: number, payload: Buffer): Buffer {
  const length = payload.length < 126 ? Buffer.of(0x80 | payload.length) : Buffer.of(0x80 | 126, payload.length >> 8, payload.length & 0xff)
  return Buffer.concat([Buffer.of(first), length, Buffer.alloc(4), payload])
}

const FIN_BINARY = 0x82
const BINARY = 0x02
const FIN_TEXT = 0x81
const CONTINUES = 0x00

t.test('whatever is no upgrade on the one path is 404', async (t) => {
  const rig = await start(t)
  for (const [path, upgrade] of [['/', false], ['/_postern/channel', false], ['/_postern/channel/', true], ['/_postern/channel?x', true], ['/x', true]] as const) {
    const request = httpRequest({ port: rig.port, path, headers: upgrade ? { connection: 'upgrade', upgrade: 'websocket' } : {} })
    request.end()
    const [response] = (await once(request, 'response')) as [{ statusCode: number; resume(): void }]
    response.resume()
    t.equal(response.statusCode, 404, path)
  }
  const request = httpRequest({ port: rig.port, path: '/_postern/channel', headers: { connection: 'upgrade', upgrade: 'h2c' } })
  request.end()
  const [response] = (await once(request, 'response')) as [{ statusCode: number; resume(): void }]
  response.resume()
  t.equal(response.statusCode, 400, 'another protocol')
  await works(rig)
})

t.test('bytes that are no HTTP close the connection', async (t) => {
  const rig = await start(t, { times: { handshakeMs: 1_000 } })
  // The last is the beginning of a message that never comes.
  for (const bytes of ['GET \0 HTTP/1.1\r\n\r\n', 'get / HTTP/1.1\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', '\xff\xff\xff', '\0\r\n\r\n']) {
    const socket = connect(rig.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.resume()
    const closed = closeOf(socket)
    socket.write(Buffer.concat([Buffer.from(bytes, 'latin1'), randomBytes(200)]))
    await closed
    t.pass(JSON.stringify(bytes))
  }
  await works(rig)
})

t.test('garbage in messages, in place of HELLO and after it, is answered with CLOSE', async (t) => {
  const rig = await start(t)
  const messages = [
    Buffer.of(0),
    Buffer.of(Kind.hello),
    Buffer.of(Kind.hello, 1, 1, 0, 255),
    Buffer.concat([Buffer.of(Kind.hello), randomBytes(400)]),
    Buffer.concat([Buffer.of(Kind.channelOpen), randomBytes(60)]),
    Buffer.concat([Buffer.of(Kind.proof), randomBytes(60)]),
    Buffer.concat([Buffer.of(Kind.record), randomBytes(60)]),
    Buffer.concat([Buffer.of(Kind.hello, 1, 1, 0, 1, 97), randomBytes(16), Buffer.of(3, 1, 0, 64), randomBytes(64)]),
    ...Array.from({ length: 50 }, () => randomBytes(100)),
  ]
  for (const message of messages) {
    const { socket, received, closed } = await raw(rig)
    socket.write(frame(FIN_BINARY, message))
    // CLOSE comes in a websocket frame of its own, before the websocket's own closing.
    await until('an answer', () => received().length > 4)
    t.equal(received()[0], FIN_BINARY)
    t.equal(received()[2], Kind.close)
    t.ok(decodeClose(received().subarray(2, 2 + received()[1]!)).code.fault === 'agent')
    socket.end(frame(0x88, Buffer.alloc(0)))
    await closed
  }
  t.ok(rig.notes.filter((note) => note.startsWith('refused')).length >= messages.length)
  await works(rig)
})

t.test('text, empty messages and frames against RFC 6455 close the websocket', async (t) => {
  const rig = await start(t)
  const cases: [string, Buffer][] = [
    ['text', frame(FIN_TEXT, Buffer.from('hello'))],
    ['an empty message', frame(FIN_BINARY, Buffer.alloc(0))],
    ['no mask', Buffer.of(FIN_BINARY, 1, 1)],
    ['reserved bits', frame(0xf2, Buffer.of(1))],
    ['an unknown opcode', frame(0x83, Buffer.of(1))],
    ['a continuation of nothing', frame(0x80, Buffer.of(1))],
    ['a length of 2^63', Buffer.from([FIN_BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ['a length of 2^32', Buffer.from([FIN_BINARY, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])],
    ['one byte over the limit', Buffer.from([FIN_BINARY, 0xff, 0, 0, 0, 0, 0, 1, 0x0c, 0x01, 0, 0, 0, 0])],
  ]
  for (const [name, bytes] of cases) {
    const { socket, received, closed } = await raw(rig)
    socket.write(bytes)
    await until(name, () => received()[0] === 0x88)
    socket.end()
    await closed
    t.pass(name)
  }
  t.equal(rig.notes.filter((note) => note.startsWith('refused')).length, cases.length)
  await works(rig)
})

t.test('a flood of small fragments is cut off before it costs anything', async (t) => {
  const rig = await start(t)
  const { socket, received, closed } = await raw(rig)
  socket.write(frame(BINARY, Buffer.of(1)))
  for (let i = 0; i < 40; i++) socket.write(frame(CONTINUES, Buffer.alloc(0)))
  await until('it is closed', () => received()[0] === 0x88)
  socket.end()
  await closed
  await works(rig)
})

t.test('a stranger sends no more than a handshake takes', async (t) => {
  const rig = await start(t)
  const large = await raw(rig)
  large.socket.write(frame(FIN_BINARY, Buffer.alloc(9_000)))
  await large.closed
  // Pings are no messages, and yet bytes.
  const pings = await raw(rig)
  for (let i = 0; i < 100; i++) pings.socket.write(frame(0x89, Buffer.alloc(120)))
  await pings.closed
  await works(rig)
})

t.test('a stranger that says nothing is told to go when its time is over', async (t) => {
  const rig = await start(t, { times: { handshakeMs: 1_000 } })
  const { socket, received, closed } = await raw(rig, 'X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n')
  await until('CLOSE', () => received().length > 2)
  t.equal(decodeClose(received().subarray(2, 2 + received()[1]!)).code.name, 'handshake_timeout')
  socket.end()
  await closed
  t.ok(rig.notes.includes('refused 198.51.100.7 handshake_timeout'))
})

t.test('an address that is none does not reach the log', async (t) => {
  const rig = await start(t)
  for (const field of ['<b>red</b>', 'x'.repeat(100), '']) {
    const { socket, closed } = await raw(rig, `X-Forwarded-For: ${field}\r\n`)
    socket.end()
    socket.destroy()
    await closed
  }
  await until('they are noted', () => rig.notes.filter((note) => note === 'refused unknown agent_lost').length === 3)
})

t.test('strangers beyond the bound are told to come again, until others are done', async (t) => {
  const rig = await start(t)
  const strangers = await Promise.all(Array.from({ length: 256 }, () => raw(rig)))
  const busy = connect(rig.port, '127.0.0.1')
  let answer = ''
  busy.on('error', () => {}).on('data', (chunk: Buffer) => (answer += chunk.toString()))
  busy.write('GET /_postern/channel HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n')
  await closeOf(busy)
  t.match(answer, /^HTTP\/1\.1 503 .*\r\n[^]*Retry-After: 2\r\n[^]*gateway_busy/)
  await works(rig)
  for (const { socket } of strangers) socket.destroy()
  await until('they are noted', () => rig.notes.filter((note) => note.startsWith('refused')).length === 256)
  await rig.agent('a', answers(200, ''))
  // A session is no stranger, nor is one that resumes.
  const agent = rig.agents[0]!
  await agent.cut()
  await agent.resume()
  await works(rig)
})

t.test('an agent that speaks garbage after its login loses its session, and no other does', async (t) => {
  const rig = await start(t)
  rig.allow('b', ['other'])
  const { carrier } = await rig.login('b')
  carrier.send(Buffer.concat([Buffer.of(Kind.record | 2, 0), randomBytes(80)]))
  await until('it is out', () => rig.notes.includes('ended b protocol_error'))
  const second = await rig.login('b')
  const session = [...rig.registry.members()].find((member) => member.agentId === 'b')!
  t.equal('id' in second.outcome && second.outcome.id, session.session.id)
  // A control message that is no JSON.
  if (!('id' in second.outcome)) throw new Error('no session')
  second.outcome.open({ kind: StreamKind.control, uuid: '0'.repeat(32), service: '', fields: NO_FIELDS, extension: NO_FIELDS, body: Buffer.from('{"serves":oh\n'), ended: false }, events())
  await until('it is out', () => rig.notes.filter((note) => note === 'ended b protocol_error').length === 2)
  await works(rig)
})

t.test('an agent opens no exchange and no second control stream at the gateway', async (t) => {
  const rig = await start(t)
  const told: string[] = []
  for (const kind of [StreamKind.exchange, StreamKind.tcp, StreamKind.monitor, StreamKind.control]) {
    const opening = { kind, uuid: '0'.repeat(32), service: 'demo', fields: NO_FIELDS, extension: NO_FIELDS, body: Buffer.alloc(0), ended: false }
    const before = told.length
    rig.agents[0]!.session.open(opening, events({ onReset: (code, begun) => told.push(`${code.name} ${String(begun)}`) }))
    await until('it is refused', () => told.length > before)
  }
  t.same(told, Array.from({ length: 4 }, () => 'refused false'))
  await works(rig)
})

/** All that an agent says from now on, as it leaves. */
function overhear(carrier: Carrier): Buffer[] {
  const said: Buffer[] = []
  const send = carrier.send.bind(carrier)
  carrier.send = (message) => {
    said.push(Buffer.from(message))
    return send(message)
  }
  return said
}

t.test('a login that was overheard and is said again ends in nothing', async (t) => {
  const rig = await start(t)
  const carrier = await rig.dial()
  const said = overhear(carrier)
  await rig.login('a', { carrier })
  t.same(said.map((message) => message[0]), [Kind.hello, Kind.proof])
  const thief = await rig.dial()
  let answer = 0
  thief.onMessage = (message) => {
    answer = message[0]!
    if (answer === Kind.challenge) thief.send(said[1]!)
  }
  const before = [...rig.registry.members()].length
  thief.send(said[0]!)
  await until('it is refused', () => rig.notes.includes('refused unknown unauthenticated'))
  await until('it is told', () => answer === Kind.close)
  t.equal([...rig.registry.members()].length, before)
  await works(rig)
})

t.test('a channel that was overheard and is opened again moves nothing', async (t) => {
  const rig = await start(t)
  const agent = rig.agents[0]!
  await agent.cut()
  const carrier = await rig.dial()
  const said = overhear(carrier)
  await agent.resume(carrier)
  t.equal(said[0]![0], Kind.channelOpen)
  const tries = [
    [said[0]!, 'stale_attach'],
    [Buffer.concat([said[0]!.subarray(0, -1), Buffer.of(said[0]!.at(-1)! ^ 1)]), 'unknown_session'],
    [Buffer.concat([Buffer.of(Kind.channelOpen), randomBytes(16), said[0]!.subarray(17)]), 'unknown_session'],
  ] as const
  for (const [message, code] of tries) {
    const thief = await rig.dial()
    let told = ''
    thief.onMessage = (answer) => (told = decodeClose(answer).code.name)
    thief.send(message)
    await until('it is refused', () => told !== '')
    t.equal(told, code)
  }
  await works(rig)
})

/** Sends a frame, sealed as it should be, for whatever stream: what a rogue agent can do and ours does not. */
function forge(session: Session, id: number): void {
  const { traffic } = session as unknown as { traffic: [{ sendEnd(stream: { id: number; standing: boolean }, trailers: [], extension: []): void }] }
  traffic[0].sendEnd({ id, standing: false }, [], [])
}

t.test('an agent that answers streams of another one is out, and the other is untouched', async (t) => {
  const rig = await start(t)
  rig.allow('b', ['other'])
  const body = randomBytes(100_000)
  const held: Stream[] = []
  await rig.agent('b', (_opening, stream) => {
    held.push(stream)
    return events()
  })
  const forger = rig.agents[0]!.session
  await works(rig)
  // Streams of its own that are over: what comes late for them is dropped.
  for (let i = 0; i < 1_000; i++) forge(forger, 0)
  await works(rig)
  const theirs = Array.from({ length: 20 }, () => rig.ask('other'))
  await until('they arrived', () => held.length === 20)
  for (const { id } of held) forge(forger, id)
  await until('the forger is out', () => rig.notes.includes('ended a protocol_error'))
  for (const stream of held) {
    stream.sendHead([':status', '200'], undefined, false)
    stream.write(body)
    stream.end()
  }
  for (const asked of theirs) {
    t.equal(await asked.done(), 'head 200, end')
    t.ok(asked.body.equals(body))
  }
})

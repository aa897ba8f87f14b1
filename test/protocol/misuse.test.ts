// §8, §10: what an owner or a peer must not do, and what comes of it.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { Frame } from '../../protocol/frames.ts'
import { FIRST_CREDIT_BYTES, INTERIM_HEADS_MAX_COUNT } from '../../protocol/limits.ts'
import { Kind } from '../../protocol/messages.ts'
import { OK, open, opening, Recorder, SessionRecorder, settle } from './parties.ts'
import { pair, type Pair } from './simulation.ts'

t.test('the owner is told of its mistakes', (t) => {
  const world = pair(1)
  const { own, far } = open(world)
  t.throws(() => own.sendHead(OK, undefined, true), /a head while/)
  t.throws(() => far.write(Buffer.alloc(1)), /body while the direction is in head/)
  t.throws(() => far.end(), /end while/)
  t.throws(() => far.sendHead([':status', '103'], undefined, true), /interim/)
  own.end()
  t.throws(() => own.write(Buffer.alloc(1)), /body while the direction is in ended/)
  t.throws(() => own.end(), /end while/)
  const tooMany = Array.from({ length: 202 }, () => 'x')
  t.throws(() => world.gateway.open(opening({ fields: tooMany }), new Recorder()), /head_too_large/)
  t.equal(world.gateway.environment.budget.usedBytes, FIRST_CREDIT_BYTES, 'what could not be opened holds nothing')
  t.end()
})

/** What the agent's session does with a record of raw frames from a gateway that is not ours. */
function raw(frames: Buffer, before: (world: Pair) => void = () => undefined): { world: Pair; ended: string | undefined } {
  const world = pair(1, { policy: 'never' })
  const recorder = new SessionRecorder((_opened, stream) => {
    stream.sendHead(OK, undefined, false)
    return new Recorder()
  })
  world.agent.events = recorder
  world.wire.right.onMessage = () => undefined
  before(world)
  settle(world)
  world.wire.right.send(Buffer.concat([Buffer.of(0x10, 0), frames]))
  settle(world)
  return { world, ended: recorder.events.find((event) => event.startsWith('end')) }
}

const frame = (type: number, ...contents: (number | Buffer)[]): Buffer => {
  const body = Buffer.concat(contents.map((part) => (typeof part === 'number' ? Buffer.of(part) : part)))
  return Buffer.concat([Buffer.of(type), body.length < 64 ? Buffer.of(body.length) : Buffer.of(0x40 | (body.length >> 8), body.length & 255), body])
}
const OPEN_ID = (id: number): Buffer => frame(Frame.open, id, 0, 0, Buffer.of(0x80, 1, 0, 0), Buffer.alloc(16), 4, Buffer.from('demo'), 0, 0)

t.test('frames that break the rules end the session with protocol_error', (t) => {
  const cases: [string, Buffer, RegExp][] = [
    ['an unknown type', frame(0x7f), /unknown type 127/],
    ['a length beyond the record', Buffer.of(Frame.data, 0x7f, 0xff), /a frame of 16383 bytes where 0 are left/],
    ['a length of 2^53', Buffer.of(Frame.data, 0xe0, 0, 0, 0, 0, 0, 0, 0), /beyond 2\^53-1/],
    ['half a length', Buffer.of(Frame.data, 0x80), /end too early/],
    ['DATA for a stream that never was', frame(Frame.data, 8, 1), /never was/],
    ['a stream with the wrong parity', OPEN_ID(1), /not the peer's to open/],
    ['a stream id used twice', Buffer.concat([OPEN_ID(2), OPEN_ID(2)]), /stream 2 after 2/],
    ['a stream id that falls', Buffer.concat([OPEN_ID(4), OPEN_ID(2)]), /stream 2 after 4/],
    ['a head where the opener sends body', Buffer.concat([OPEN_ID(0), frame(Frame.head, 0, 0, 0, 0)]), /a head while/],
    ['DATA without a byte', Buffer.concat([OPEN_ID(0), frame(Frame.data, 0)]), /a DATA frame of 0 bytes/],
    ['DATA after END', Buffer.concat([OPEN_ID(0), frame(Frame.end, 0), frame(Frame.data, 0, 1)]), /body while the direction is in ended/],
    ['END twice', Buffer.concat([OPEN_ID(0), frame(Frame.end, 0), frame(Frame.end, 0)]), /an end while/],
    ['bytes behind a number', Buffer.concat([OPEN_ID(0), frame(Frame.credit, 0, 1, 1)]), /1 bytes too many/],
    ['an ack from the future', frame(Frame.ack, 60), /an ack of 60 records/],
    ['a head of 101 fields', Buffer.concat([OPEN_ID(0), frame(Frame.end, 0, Buffer.of(0x40, 101), Buffer.alloc(202), 0)]), /a head of 101 fields/],
    ['a head of absurd length', Buffer.concat([OPEN_ID(0), frame(Frame.end, 0, 1, Buffer.of(0xbf, 255, 255, 255), 0)]), /a head of \d+ bytes/],
    ['a service name that is too long', frame(Frame.open, 0, 0, 0, 1, Buffer.alloc(16), 64, Buffer.alloc(64), 0, 0), /a service name of 64 bytes/],
    ['a control stream in the open', frame(Frame.open, 0, 1, 0, 1, Buffer.alloc(16), 0, 0, 0), /not sealed/],
    ['SETTINGS in the open', frame(Frame.settings, 0), /not sealed/],
    ['DRAIN in the open', frame(Frame.drain, 0), /not sealed/],
    ['an empty record', Buffer.alloc(0), /a record of 0 bytes/],
  ]
  for (const [what, frames, says] of cases) {
    const { ended, world } = raw(frames)
    t.match(ended ?? 'nothing', says, what)
    t.match(ended ?? 'nothing', /^end protocol_error/, what)
    t.ok(world.wire.left.sent.some((message) => message[0] === Kind.close), `${what}: the peer is told`)
  }
  t.end()
})

t.test('an unknown frame with the skip bit is skipped', (t) => {
  const { ended, world } = raw(Buffer.concat([frame(0x80 | 0x3f, 1, 2, 3), OPEN_ID(0)]))
  t.equal(ended, undefined)
  t.equal(world.agent.streamCount, 1)
  t.end()
})

t.test('PING is answered with the same eight bytes', (t) => {
  const { ended, world } = raw(frame(Frame.ping, 0, Buffer.from('12345678')))
  t.equal(ended, undefined)
  t.ok(world.wire.left.sent.some((message) => message.includes(Buffer.concat([Buffer.of(Frame.ping, 9, 1), Buffer.from('12345678')]))))
  t.end()
})

t.test('body beyond the credit ends the session', (t) => {
  const piece = frame(Frame.data, 0, Buffer.alloc(16_000))
  const { ended } = raw(Buffer.concat([OPEN_ID(0), piece, piece, piece, piece]))
  t.equal(ended, undefined)
  const over = raw(Buffer.concat([piece, piece, piece, piece]), (world) => world.wire.right.send(Buffer.concat([Buffer.of(0x10, 0), OPEN_ID(0), piece])))
  t.match(over.ended ?? '', /beyond its credit/)
  t.end()
})

t.test('a credit that falls is passed over, an enormous one does no harm', (t) => {
  const { ended, world } = raw(Buffer.concat([OPEN_ID(0), frame(Frame.credit, 0, 1), frame(Frame.credit, 0, Buffer.of(0xc0, 0x1f, 255, 255, 255, 255, 255, 255))]))
  t.equal(ended, undefined)
  t.notOk(world.agent.ended)
  t.end()
})

t.test('a storm of interim heads ends the session', (t) => {
  const world = pair(1)
  const { far } = open(world, { ended: true })
  for (let i = 0; i < INTERIM_HEADS_MAX_COUNT; i++) far.sendHead([':status', '103'], undefined, false)
  settle(world)
  t.notOk(world.gateway.ended)
  far.sendHead([':status', '103'], undefined, false)
  settle(world)
  t.ok(world.gateway.ended)
  t.end()
})

t.test('an owner that throws loses its session and nothing else', (t) => {
  const world = pair(1)
  const recorder = new SessionRecorder(() => {
    throw new Error('a mistake of ours')
  })
  world.agent.events = recorder
  world.gateway.events = new SessionRecorder(() => errors.refused)
  const asker = new Recorder()
  world.gateway.open(opening(), asker)
  settle(world)
  t.match(recorder.events[0], /^end gateway_fault: Error: a mistake of ours/)
  t.ok(world.gateway.ended)
  t.same(asker.events, ['reset gateway_fault begun'])
  t.end()
})

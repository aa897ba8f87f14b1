// §7, §8: a peer that asks and never acknowledges, and visitors that come and go while it does: what we keep for them has an end.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { Frame } from '../../protocol/frames.ts'
import { ACKS_KEPT_MAX_COUNT, ACK_AFTER_RECORDS, FRAMES_WAITING_MAX_COUNT, OPENS_WAITING_MAX_BYTES } from '../../protocol/limits.ts'
import { opening, Recorder, SessionRecorder, settle } from './parties.ts'
import { pair, type Pair } from './simulation.ts'

/** An agent whose gateway is somebody else: it sends what it likes, and takes nothing in. */
function rogue(): { world: Pair; told: SessionRecorder; send: (frames: Buffer) => void } {
  const world = pair(1, { policy: 'never' })
  const told = new SessionRecorder(() => errors.refused)
  world.agent.events = told
  world.wire.right.onMessage = () => undefined
  return { world, told, send: (frames) => void world.wire.right.send(Buffer.concat([Buffer.of(0x10, 0), frames])) }
}

const times = (count: number, one: (i: number) => Buffer): Buffer => Buffer.concat(Array.from({ length: count }, (_none, i) => one(i)))

t.test('answers that nobody takes end the session', (t) => {
  const ping = Buffer.concat([Buffer.of(Frame.ping, 9, 0), Buffer.alloc(8)])
  const id = (n: number): Buffer => Buffer.of(0x80 | (n >>> 24), n >>> 16, n >>> 8, n)
  // Id, kind, flags, credit, uuid, no service name, no fields, no extension.
  const open = (n: number): Buffer => Buffer.concat([Buffer.of(Frame.open, 26), id(n), Buffer.of(0, 0, 1), Buffer.alloc(16), Buffer.of(0, 0, 0)])
  const cases: [string, (record: number) => Buffer][] = [
    ['PING', () => times(5_000, () => ping)],
    ['OPEN', (record) => times(2_000, (i) => open(2 * (record * 2_000 + i)))],
  ]
  for (const [what, record] of cases) {
    const { world, told, send } = rogue()
    let sent = 0
    for (let i = 0; i < 100 && !world.agent.ended; i++, sent++) {
      send(record(i))
      settle(world)
    }
    t.match(told.events.at(-1) ?? 'nothing', /^end protocol_error: .*answers/, what)
    t.ok(sent * 2_000 > FRAMES_WAITING_MAX_COUNT / 2, `${what}: not before there are very many`)
  }
  t.end()
})

t.test('acks that nobody acknowledges end the session', (t) => {
  const { world, told, send } = rogue()
  const skipped = Buffer.of(0x80 | 0x3f, 0)
  for (let i = 0; i <= ACKS_KEPT_MAX_COUNT + 1; i++) {
    for (let n = 0; n < ACK_AFTER_RECORDS; n++) send(skipped)
    world.clock.run(() => false, 2)
    if (world.agent.ended) break
    t.ok(i <= ACKS_KEPT_MAX_COUNT || world.agent.ended)
  }
  t.match(told.events.at(-1) ?? 'nothing', /^end protocol_error: .*acks/)
  t.end()
})

t.test('visitors that come and go while the agent takes nothing are refused before their heads fill the memory', (t) => {
  const world = pair(1)
  world.wire.left.deaf = true
  const wide = 'x'.repeat(8_000)
  let opened = 0
  for (let i = 0; i < 5_000; i++) {
    const stream = world.gateway.open(opening({ fields: [':method', 'GET', 'x-wide', wide], ended: true }), new Recorder())
    if (stream === undefined) break
    opened++
    stream.reset(errors.cancelled, true)
    if (i % 100 === 0) world.clock.run(() => false, 1)
  }
  t.equal(world.gateway.streamCount, 0)
  t.ok(opened * wide.length < 2 * OPENS_WAITING_MAX_BYTES, `${String(opened)} were opened`)
  t.notOk(world.gateway.ended)
  t.end()
})

t.test('a small chunk does not hold the memory of the large record it came in', (t) => {
  const { world, told, send } = rogue()
  const chunks: Uint8Array[] = []
  told.onOpen = () => {
    const recorder = new Recorder()
    recorder.onData = (chunk) => void chunks.push(chunk)
    return recorder
  }
  send(Buffer.concat([Buffer.of(Frame.open, 26), Buffer.of(0x80, 0, 0, 0), Buffer.of(0, 0, 1), Buffer.alloc(16), Buffer.of(0, 0, 0)]))
  // One byte for the stream, and 60,000 that are skipped.
  const skipped = Buffer.concat([Buffer.of(0x80 | 0x3f, 0x80, 0, 60_000 >>> 8, 60_000 & 255), Buffer.alloc(60_000)])
  for (let i = 0; i < 10; i++) send(Buffer.concat([Buffer.of(Frame.data, 2, 0, 7), skipped]))
  settle(world)
  t.equal(chunks.length, 10)
  const held = new Set(chunks.map((chunk) => chunk.buffer))
  t.ok([...held].reduce((sum, { byteLength }) => sum + byteLength, 0) < 10_000)
  t.ok(chunks.every((chunk) => chunk[0] === 7))
  t.end()
})

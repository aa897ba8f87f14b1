// §7: what is in flight is bounded, so that on a slow link small messages and heartbeats do not wait behind a large body.
import t from 'tap'
import { ACK_AFTER_MS, ACK_AFTER_RECORDS, IN_FLIGHT_MAX_BYTES, IN_FLIGHT_MIN_BYTES, RECORD_PAYLOAD_MAX_BYTES } from '../../protocol/limits.ts'
import { Kind } from '../../protocol/messages.ts'
import { opening, Recorder, SessionRecorder } from './parties.ts'
import { pair, type Pair } from './simulation.ts'

/** 4 Mbit/s. */
const SLOW_BYTES_PER_MS = 500

/** Lets the agent answer `/download` without end and everything else at once. */
function serve(world: Pair): { downloaded: () => number } {
  let bytes = 0
  world.agent.events = new SessionRecorder((opened, stream) => {
    if (opened.service !== 'download') {
      stream.sendHead([':status', '200'], Buffer.from('small'), true)
      return new Recorder()
    }
    const owner = new Recorder()
    stream.sendHead([':status', '200'], undefined, false)
    owner.onDrain = () => void stream.write(Buffer.alloc(65_536))
    owner.onDrain()
    return owner
  })
  const asker = new Recorder()
  const own = world.gateway.open(opening({ service: 'download', ended: true }), asker)!
  asker.onData = (chunk) => {
    bytes += chunk.length
    own.consumed(chunk.length)
  }
  return { downloaded: () => bytes }
}

t.test('on a link of 4 Mbit/s a small request beside a download waits well under a second, at full goodput, for minutes', (t) => {
  const world = pair(3, { delayMs: () => 25, bytesPerMs: SLOW_BYTES_PER_MS })
  const { downloaded } = serve(world)
  world.clock.run(() => false, 5_000)
  const waits: number[] = []
  const from = { at: world.clock.now(), bytes: downloaded() }
  for (let i = 0; i < 60; i++) {
    const asker = new Recorder()
    const asked = world.clock.now()
    world.gateway.open(opening({ ended: true }), asker)
    world.clock.run(() => asker.events.length > 0, 30_000)
    waits.push(world.clock.now() - asked)
    world.clock.run(() => false, 1_000)
  }
  const goodput = (downloaded() - from.bytes) / (world.clock.now() - from.at)
  t.ok(Math.max(...waits) < 600, `the longest wait was ${String(Math.round(Math.max(...waits)))} ms`)
  t.ok(goodput > SLOW_BYTES_PER_MS * 0.9, `goodput is ${String(Math.round((goodput / SLOW_BYTES_PER_MS) * 100))} % of the link`)
  t.ok((world.gateway.carriers.length === 1) && !world.gateway.ended, 'no heartbeat was lost')
  t.end()
})

t.test('on a fast link with a long round trip the bound grows until the link is full', (t) => {
  const bytesPerMs = 50_000 // 50 MB/s
  const world = pair(3, { delayMs: () => 25, bytesPerMs })
  const { downloaded } = serve(world)
  world.clock.run(() => false, 3_000)
  const from = { at: world.clock.now(), bytes: downloaded() }
  world.clock.run(() => false, 1_000)
  const goodput = (downloaded() - from.bytes) / (world.clock.now() - from.at)
  t.ok(goodput > bytesPerMs * 0.7, `goodput is ${String(Math.round((goodput / bytesPerMs) * 100))} % of the link`)
  t.end()
})

t.test('at most W bytes are unacknowledged, however much is queued', (t) => {
  const world = pair(3)
  serve(world)
  world.wire.right.deaf = true
  world.clock.run(() => false, 5_000)
  const sent = world.wire.left.sent.filter((message) => message[0]! >= Kind.record && message[0]! < Kind.beat).reduce((sum, message) => sum + message.length, 0)
  t.ok(sent <= IN_FLIGHT_MAX_BYTES + RECORD_PAYLOAD_MAX_BYTES)
  t.ok(sent < 2 * IN_FLIGHT_MIN_BYTES + RECORD_PAYLOAD_MAX_BYTES, 'a lane that has not shown a rate yet begins at the least bound')
  t.end()
})

t.test('an ack leaves after 16 records or 25 ms, and is not itself acknowledged', (t) => {
  const world = pair(3)
  world.agent.events = new SessionRecorder(() => new Recorder())
  const records = (): number => world.wire.left.sent.filter((message) => message[0]! >= Kind.record && message[0]! < Kind.beat).length
  for (let i = 0; i < ACK_AFTER_RECORDS - 1; i++) {
    world.gateway.open(opening({ ended: true }), new Recorder())
    world.clock.run(() => false, 0.5)
  }
  world.clock.run(() => false, 2)
  t.equal(records(), 0, 'one record fewer asks for no ack yet')
  world.gateway.open(opening({ ended: true }), new Recorder())
  world.clock.run(() => false, 2)
  t.equal(records(), 1, 'the sixteenth does')
  world.gateway.open(opening({ ended: true }), new Recorder())
  world.clock.run(() => false, ACK_AFTER_MS + 2)
  t.equal(records(), 2, 'and a single one after its time')
  const before = world.wire.right.sent.length
  world.clock.run(() => false, 1_000)
  t.equal(world.wire.right.sent.length, before, 'nobody acknowledges an ack')
  t.end()
})

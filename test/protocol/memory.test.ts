// Large memory is given back as soon as nobody needs it, and not before: what is sent, what is acknowledged, what is read.
import t from 'tap'
import { Lane } from '../../protocol/lane.ts'
import { LENGTH_BYTES, MessageReader } from '../../protocol/message-reader.ts'
import { decodeChannelOpen, Direction } from '../../protocol/messages.ts'
import { LaneSeal } from '../../protocol/seal.ts'
import { Echo, opening, Recorder, Sender, SessionRecorder } from './parties.ts'
import { pair, SimulatedClock, Wire, type WireEnd } from './simulation.ts'

const LARGE_BYTES = 50_000

const isGone = (bytes: Uint8Array): boolean => bytes.buffer.byteLength === 0
const large = (): Buffer => Buffer.allocUnsafeSlow(LARGE_BYTES).fill('x')

/** Keeps what `end` is told to send, as it was handed over. */
function watch(end: WireEnd): Buffer[] {
  const messages: Buffer[] = []
  const { send } = end
  end.send = (message) => {
    messages.push(message)
    return send.call(end, message)
  }
  return messages
}

t.test('a chunk that is given goes once it is in a record; one that is only written stays', async (t) => {
  const { clock, agent, gateway } = pair(1)
  gateway.events = new SessionRecorder((opened, stream) => new Echo(opened, stream))
  const [lent, given] = [large(), large()]
  const stream = agent.open(opening(), new Recorder())!
  stream.write(lent)
  stream.give(given)
  t.notOk(isGone(given), 'it waits for its turn')
  t.ok(clock.run(() => isGone(given)))
  t.notOk(isGone(lent))
})

/** A lane begins with little at once: so many bytes it needs to make a large record. */
const MANY_BYTES = 2_000_000
const isLarge = (message: Buffer): boolean => message.length > 30_000

t.test('a record’s memory goes when it is acknowledged', async (t) => {
  const { clock, agent, gateway, wire } = pair(1)
  gateway.events = new SessionRecorder((opened, stream) => new Echo(opened, stream))
  const messages = watch(wire.left)
  const sender = new Sender(Buffer.alloc(MANY_BYTES), () => LARGE_BYTES)
  sender.start(agent.open(opening(), sender)!)
  t.ok(clock.run(() => messages.some(isLarge)))
  const record = messages.find(isLarge)!
  t.ok(clock.run(() => isGone(record)))
})

t.test('a record that the channel still looks at keeps its memory, whatever the peer acknowledges', async (t) => {
  const messages: Buffer[] = []
  const ride = {
    writable: true,
    sentBytes: 0,
    leftBytes: 0,
    waitsSince: () => undefined,
    send: (message: Buffer) => {
      messages.push(message)
      ride.sentBytes += message.length
    },
  }
  const seal = (): LaneSeal => new LaneSeal(Buffer.alloc(32), Direction.toAgent, 0)
  const lane = new Lane(0, 'always', seal(), seal(), new SimulatedClock())
  lane.begin(ride)
  for (let i = 0; i < 3; i++) lane.send(large(), true, false, 0)
  ride.leftBytes = messages[0]!.length
  lane.acked(2, 0)
  t.same(messages.map(isGone), [true, false, false])
  ride.leftBytes = ride.sentBytes
  lane.acked(3, 0)
  t.same(messages.map(isGone), [true, false, true])
})

t.test('a record that an old channel may still hold keeps its memory when a new one brings its ack', async (t) => {
  const { clock, agent, gateway, wire } = pair(1, { delayMs: () => 100 })
  gateway.events = new SessionRecorder((opened, stream) => new Echo(opened, stream))
  const [old, anew] = [watch(wire.left), new Wire(clock, () => 1)]
  const sender = new Sender(Buffer.alloc(MANY_BYTES), () => LARGE_BYTES)
  sender.start(agent.open(opening(), sender)!)
  t.ok(clock.run(() => old.some(isLarge)))
  const held = old.find(isLarge)!
  anew.right.onMessage = (message) => {
    const { channelNumber, marks } = decodeChannelOpen(message)
    t.equal(gateway.acceptChannel(anew.right, message, channelNumber, marks), undefined)
  }
  agent.openChannel(anew.left, (refusal) => t.equal(refusal, undefined))
  const again = watch(anew.left)
  t.ok(clock.run(() => again.some(isLarge), 90), 'it is sent again')
  t.ok(clock.run(() => sender.receivedBytes === MANY_BYTES))
  t.notOk(isGone(held))
})

t.test('a chunk that was read goes once all of it was copied, and stays while a message is a view of it', async (t) => {
  const whole = Buffer.concat([Buffer.alloc(LENGTH_BYTES), large()])
  whole.writeUIntBE(LARGE_BYTES, 0, LENGTH_BYTES)
  const reader = new MessageReader()
  const own = (from: number, to: number): Buffer => {
    const chunk = Buffer.allocUnsafeSlow(to - from)
    whole.copy(chunk, 0, from, to)
    return chunk
  }
  const parts = [own(0, 20_000), own(20_000, whole.length)]
  for (const part of parts) {
    reader.push(part, true)
    const message = reader.next()
    if (message !== undefined) t.same(message, whole.subarray(LENGTH_BYTES))
    t.equal(reader.next(), undefined)
  }
  t.same(parts.map(isGone), [true, true])
  const viewed = own(0, whole.length)
  reader.push(viewed, true)
  const message = reader.next() as Buffer
  t.equal(reader.next(), undefined)
  t.equal(message.buffer, viewed.buffer)
  t.notOk(isGone(viewed))
  const lent = own(0, 20_000)
  reader.push(lent)
  t.equal(reader.next(), undefined)
  t.notOk(isGone(lent))
})

// §5: what becomes of lanes when a channel dies before its answer came, when answers overtake one another, and when a channel takes nothing.
import t from 'tap'
import { decodeChannelOpen } from '../../protocol/messages.ts'
import type { Refusal } from '../../protocol/session.ts'
import { OK, opening, Recorder, SessionRecorder, settle } from './parties.ts'
import { pair, type Pair, TIMES, Wire } from './simulation.ts'

/** A world whose agent answers at once, and what both sessions told. */
function world(): { world: Pair; told: SessionRecorder } {
  const made = pair(1)
  const told = new SessionRecorder((_opened, stream) => {
    stream.sendHead(OK, undefined, true)
    return new Recorder()
  })
  made.agent.events = told
  return { world: made, told }
}

/** A wire to the gateway; what its session says to a channel that opens on it. */
function wireTo(made: Pair, delayMs = 1, accepted: (wire: Wire) => void = () => undefined): { wire: Wire; refused: Refusal[] } {
  const wire = new Wire(made.clock, () => delayMs)
  const refused: Refusal[] = []
  wire.right.onMessage = (message) => {
    const { channelNumber, marks } = decodeChannelOpen(message)
    const refusal = made.gateway.acceptChannel(wire.right, message, channelNumber, marks)
    if (refusal === undefined) return accepted(wire)
    refused.push(refusal)
    wire.cut('refused')
  }
  return { wire, refused }
}

function asks(made: Pair): string {
  const asker = new Recorder()
  made.gateway.open(opening({ ended: true }), asker)
  settle(made)
  return asker.events.join()
}

t.test('a lane that moved to a channel whose answer never came goes back to the one that lives', (t) => {
  const { world: made } = world()
  const { wire } = wireTo(made, 1, (one) => one.cut('before the answer is there'))
  let refusals = 0
  made.agent.openChannel(wire.left, (refusal) => (refusal === undefined ? undefined : refusals++))
  settle(made)
  t.equal(refusals, 1)
  t.ok(made.agent.attached && made.gateway.attached)
  t.equal(asks(made), 'head 200 ended')
  t.end()
})

t.test('a lane whose channel dies goes to another that the session has', (t) => {
  const { world: made, told } = world()
  const { wire } = wireTo(made)
  made.agent.openChannel(wire.left, () => undefined, [])
  settle(made)
  made.wire.cut('by the test')
  t.equal(asks(made), 'head 200 ended')
  t.same(told.events, ['channel lost: by the test'], 'it never was without a channel')
  t.end()
})

t.test('everyone who asked for a lane on a channel that dies hears of it', (t) => {
  const { world: made } = world()
  const heard: string[] = []
  for (let i = 0; i < 2; i++) made.agent.attach(made.agent.carriers[0]!, [0], (refusal) => heard.push(refusal?.code.name ?? 'granted'))
  made.wire.cut('by the test')
  settle(made)
  t.same(heard, ['agent_lost', 'agent_lost'])
  t.end()
})

t.test('a channel that comes after one with a higher number is refused, and its session lives on', (t) => {
  const { world: made, told } = world()
  const slow = wireTo(made, 50)
  const quick = wireTo(made, 1)
  made.agent.openChannel(slow.wire.left, () => undefined)
  made.agent.openChannel(quick.wire.left, () => undefined)
  settle(made)
  t.same(slow.refused.map(({ code }) => code.name), ['stale_attach'])
  t.equal(asks(made), 'head 200 ended')
  t.same(told.events, [])
  t.end()
})

t.test('channels that no lane rides on are known', (t) => {
  const { world: made } = world()
  const { wire } = wireTo(made)
  made.agent.openChannel(wire.left, () => undefined)
  settle(made)
  t.ok(made.agent.idleCarriers.length === 1 && made.agent.idleCarriers[0] === made.wire.left)
  t.end()
})

t.test('a lane that moves sends again no more than its channel takes, and the rest when it takes more', (t) => {
  const { world: made } = world()
  // A gateway whose records are never acknowledged: the agent's end hears nothing.
  made.wire.left.deaf = true
  const body = Buffer.alloc(60_000, 'x')
  made.gateway.open(opening({ body, ended: true }), new Recorder())
  made.gateway.open(opening({ body, ended: true }), new Recorder())
  settle(made)
  const kept = made.wire.right.sent.reduce((sum, message) => sum + message.length, 0)
  t.ok(kept > 100_000)
  // The agent asks for the same lane again and again, over a channel that is full from the first message on.
  let taken = 0
  let full = true
  const { wire } = wireTo(made)
  const send = wire.right.send.bind(wire.right)
  wire.right.send = (message) => {
    taken += message.length
    return send(message) && !full
  }
  made.agent.openChannel(wire.left, () => undefined)
  settle(made)
  for (let i = 0; i < 20; i++) made.agent.attach(wire.left, [0], () => undefined)
  settle(made)
  t.ok(taken < kept, `${String(taken)} bytes were sent to a channel that is full`)
  full = false
  wire.right.onDrain()
  settle(made)
  t.ok(taken > kept, 'all of it is sent again')
  t.equal(asks(made), 'head 200 ended')
  t.end()
})

t.test('a channel that is asked for and never answered is given up in the time of a handshake, long before the grace is over', (t) => {
  const { world: made } = world()
  made.wire.cut('by the test')
  settle(made)
  const wire = new Wire(made.clock, () => 1)
  const heard: string[] = []
  made.agent.openChannel(wire.left, (refusal) => heard.push(refusal?.code.name ?? 'granted'))
  made.clock.run(() => heard.length > 0, TIMES.handshakeMs + 10)
  t.same(heard, ['handshake_timeout'])
  t.notOk(wire.isOpen)
  t.notOk(made.agent.ended)
  const { wire: next } = wireTo(made)
  made.agent.openChannel(next.left, (refusal) => heard.push(refusal?.code.name ?? 'granted'))
  settle(made)
  made.clock.run(() => false, 2 * TIMES.handshakeMs)
  t.same(heard, ['handshake_timeout', 'granted'])
  t.equal(asks(made), 'head 200 ended')
  t.end()
})

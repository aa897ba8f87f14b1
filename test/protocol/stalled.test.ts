// §5: a channel over which nothing comes, though something should, is told of once and early; one that is only slow is not.
import t from 'tap'
import { STALLED_AFTER_MS, STALLED_AFTER_ROUND_TRIPS } from '../../protocol/limits.ts'
import { OK, opening, Recorder, Sender, SessionRecorder } from './parties.ts'
import { pair, type Pair, TIMES } from './simulation.ts'

function told(made: Pair): string[] {
  const recorder = new SessionRecorder((_opened, stream) => {
    const sender = new Sender(Buffer.alloc(2_000_000, 'x'), () => 10_000)
    stream.sendHead(OK, undefined, false)
    sender.start(stream)
    return sender
  })
  made.agent.events = recorder
  return recorder.events
}

const stalls = (events: readonly string[]): number => events.filter((event) => event === 'stalled').length

t.test('an answer that is never acknowledged makes its channel count as stalled after two seconds, once', (t) => {
  const made = pair(1)
  const events = told(made)
  made.gateway.open(opening({ ended: true }), new Recorder())
  // In the middle of the answer, before the first beat.
  t.ok(made.clock.run(() => made.wire.delivered > 4, 1_000))
  const since = made.clock.now()
  made.wire.left.deaf = true
  t.ok(made.clock.run(() => stalls(events) > 0, TIMES.deadAfterMs))
  t.ok(made.clock.now() - since < STALLED_AFTER_MS + 1_000)
  made.clock.run(() => false, 10_000)
  t.equal(stalls(events), 1)
  t.ok(made.agent.attached, 'it is not given up for that')
  t.end()
})

t.test('an idle channel that goes silent counts as stalled soon after the next beat', (t) => {
  const made = pair(1)
  const events = told(made)
  made.wire.left.deaf = true
  t.ok(made.clock.run(() => stalls(events) > 0, TIMES.heartbeatMs + STALLED_AFTER_MS + 10))
  t.end()
})

t.test('a slow link is not stalled as long as acks come, however long its queue', (t) => {
  // 16 bytes a millisecond: an answer of 2 MB takes two minutes, and each record waits its turn.
  const made = pair(1, { bytesPerMs: 16, delayMs: () => 100 })
  const events = told(made)
  const asker = new Recorder()
  let taken = 0
  asker.onData = (chunk) => {
    taken += chunk.length
    asker.stream!.consumed(chunk.length)
  }
  asker.stream = made.gateway.open(opening({ ended: true }), asker)
  made.clock.run(() => taken > 1_900_000, 600_000)
  t.ok(taken > 1_900_000)
  t.equal(stalls(events), 0)
  t.end()
})

t.test('over a far link the patience is four round trips', (t) => {
  const made = pair(1, { delayMs: () => 1_000 })
  const events = told(made)
  made.clock.run(() => false, 30_000)
  t.equal(stalls(events), 0, 'a beat of two seconds is in time')
  const since = made.clock.now()
  made.wire.left.deaf = true
  t.ok(made.clock.run(() => stalls(events) > 0, TIMES.heartbeatMs + 10_000))
  t.ok(made.clock.now() - since >= STALLED_AFTER_ROUND_TRIPS * 2_000 - 2_000)
  t.end()
})

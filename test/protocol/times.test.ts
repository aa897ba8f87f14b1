// Other times count from the moment they are set, at either end first, and the change itself breaks no channel.
import t from 'tap'
import { Recorder, SessionRecorder } from './parties.ts'
import { pair, type Pair, TIMES } from './simulation.ts'

const QUICK = { ...TIMES, heartbeatMs: 100, deadAfterMs: 300, graceMs: 1_000 }

function quiet(): { made: Pair; told: SessionRecorder[]; pass: (ms: number) => unknown } {
  const made = pair(3)
  const told = [made.agent, made.gateway].map((session) => (session.events = new SessionRecorder(() => new Recorder())))
  const pass = (ms: number): unknown => {
    const until = made.clock.now() + ms
    return made.clock.run(() => made.clock.now() >= until, ms + 1)
  }
  // Almost as long as nothing is said at all.
  pass(9_000)
  return { made, told, pass }
}

for (const first of ['agent', 'gateway'] as const) {
  t.test(`the ${first} first: nothing is lost, and beats come as often as they are to`, (t) => {
    const { made, told, pass } = quiet()
    const other = first === 'agent' ? 'gateway' : 'agent'
    made[first].keepTimes(QUICK)
    pass(2_000)
    made[other].keepTimes(QUICK)
    const before = made.wire.delivered
    pass(2_000)
    t.ok(made.wire.delivered - before >= 60, String(made.wire.delivered - before))
    made.gateway.keepTimes(TIMES)
    pass(5_000)
    made.agent.keepTimes(TIMES)
    pass(60_000)
    t.same(told.flatMap(({ events }) => events), [])
    t.end()
  })
}

t.test('a channel that falls silent is dead, and a session without one over, when the new times say so', (t) => {
  const { made, told, pass } = quiet()
  for (const session of [made.agent, made.gateway]) session.keepTimes(QUICK)
  pass(1_000)
  made.wire.left.deaf = true
  made.wire.right.deaf = true
  pass(500)
  t.match(told[1]!.events[0], /channel lost: nothing came for/)
  pass(1_500)
  t.match(told[1]!.events.at(-1), /^end agent_lost/)
  t.end()
})

t.test('what is the same changes nothing', (t) => {
  const { made, pass } = quiet()
  const before = made.wire.delivered
  for (let i = 0; i < 100; i++) made.agent.keepTimes({ ...TIMES })
  pass(100)
  t.equal(made.wire.delivered, before)
  t.end()
})

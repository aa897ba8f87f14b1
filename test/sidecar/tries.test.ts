// §3: wrong tries slow down whoever makes them, not the owner; what strangers cost and what is remembered of them is bounded.
import t from 'tap'
import { Allowance } from '../../sidecar/allowance.ts'
import { FREE_COUNT, Penalties, PENALTIES_MAX_COUNT } from '../../sidecar/penalties.ts'
import { sourceOf } from '../../sidecar/source.ts'
import { Tries } from '../../sidecar/tries.ts'
import { SimulatedClock } from '../protocol/simulation.ts'

/** Lets so much time go by. */
function pass(clock: SimulatedClock, ms: number): void {
  let over = false
  clock.later(ms, () => (over = true))
  clock.run(() => over)
}

type Answer = 'challenged' | 'refused' | 'waits'

/** A try that is wrong as soon as it is challenged. */
function guess(tries: Tries, peer: string, agent: string, told: (answer: Answer) => void): void {
  const attempt = tries.begin({ peer }, agent, () => {
    told('challenged')
    attempt.over()
  }, () => {
    told('refused')
    attempt.over()
  })
}

/** How long the owner of the right secret waits for a challenge; undefined if there is none. */
function enter(clock: SimulatedClock, tries: Tries, peer: string, agent: string): number | undefined {
  const began = clock.now()
  let challengedAt: number | undefined
  const attempt = tries.begin({ peer }, agent, () => (challengedAt = clock.now()), () => undefined)
  clock.run(() => challengedAt !== undefined, 10_000)
  if (challengedAt === undefined) return undefined
  attempt.right()
  return challengedAt - began
}

t.test('10,000 wrong tries of one source are challenged no faster than one a second, and the others are refused', (t) => {
  const clock = new SimulatedClock()
  const tries = new Tries(clock)
  const count = { challenged: 0, refused: 0, waits: 0 }
  // Twenty a second, for five hundred seconds.
  for (let i = 0; i < 10_000; i++) {
    guess(tries, '203.0.113.9', `agent-${String(i % 3)}`, (answer) => count[answer]++)
    pass(clock, 50)
  }
  pass(clock, 5_000)
  const seconds = clock.now() / 1_000
  t.equal(count.challenged + count.refused, 10_000)
  t.ok(count.challenged <= FREE_COUNT + seconds + 6, `${String(count.challenged)} in ${seconds.toFixed(0)} s`)
  t.ok(count.challenged >= seconds / 2, 'it is slowed, not shut out')
  t.end()
})

t.test('many tries at once gain nothing', (t) => {
  const clock = new SimulatedClock()
  const tries = new Tries(clock)
  let challenged = 0
  for (let round = 0; round < 100; round++) {
    for (let i = 0; i < 100; i++) guess(tries, '203.0.113.9', 'agent-1', (answer) => (challenged += answer === 'challenged' ? 1 : 0))
    pass(clock, 10_000)
  }
  // The first hundred come before anything is known of their source.
  t.ok(challenged <= 100 + FREE_COUNT + 1_000 + 6, String(challenged))
  t.end()
})

t.test('an agent that is guessed at from everywhere waits two seconds at a new place, and not at all where it was before', (t) => {
  const clock = new SimulatedClock()
  const tries = new Tries(clock)
  t.equal(enter(clock, tries, '198.51.100.1', 'agent-1'), 0)
  for (let i = 0; i < 2_000; i++) {
    guess(tries, `10.0.${String(i >> 8)}.${String(i & 255)}`, 'agent-1', () => undefined)
    pass(clock, 1)
  }
  t.equal(enter(clock, tries, '198.51.100.1', 'agent-1'), 0, 'where it was')
  const elsewhere = enter(clock, tries, '198.51.100.2', 'agent-1')
  t.ok(elsewhere !== undefined && elsewhere > 1_000 && elsewhere <= 2_010, `elsewhere: ${String(elsewhere)} ms`)
  t.equal(enter(clock, tries, '198.51.100.3', 'agent-2'), 0, 'another agent')
  t.end()
})

t.test('one that comes back from the same place is not held up by one wrong neighbour', (t) => {
  const clock = new SimulatedClock()
  const tries = new Tries(clock)
  for (let i = 0; i < FREE_COUNT; i++) guess(tries, '203.0.113.9', 'neighbour', () => undefined)
  pass(clock, 10)
  const waits = Array.from({ length: 500 }, (_value, i) => enter(clock, tries, '203.0.113.9', `agent-${String(i)}`))
  t.ok(waits.every((ms) => ms === 0))
  t.end()
})

t.test('who leaves before it was challenged made no wrong try', (t) => {
  const clock = new SimulatedClock()
  const tries = new Tries(clock)
  for (let i = 0; i < 1_000; i++) tries.begin({ peer: 'a' }, 'agent-1', () => t.fail('nobody is there'), () => t.fail('nobody is there')).over()
  pass(clock, 10)
  t.equal(tries.bySource.size, 0)
  t.equal(tries.byAgent.size, 0)
  t.end()
})

t.test('the table of penalties keeps to its bound, and what is paid is forgotten', (t) => {
  const clock = new SimulatedClock()
  const penalties = new Penalties(clock)
  for (let i = 0; i < 3 * PENALTIES_MAX_COUNT; i++) {
    const name = `source ${String(i)}`
    penalties.began(name)
    penalties.ended(name, true)
    if (penalties.size > PENALTIES_MAX_COUNT) t.fail(`${String(penalties.size)} are kept`)
  }
  t.ok(penalties.size >= PENALTIES_MAX_COUNT / 2)
  for (let i = 0; i <= 2 * FREE_COUNT; i++) penalties.ended('guesser', true)
  t.ok(penalties.waitMs('guesser') > 0)
  pass(clock, 60_000)
  t.equal(penalties.waitMs('guesser'), 0)
  t.end()
})

/** Each piece of work takes `costMs` of the time that everything else has too. */
function working(costMs: number): { clock: SimulatedClock; allowance: Allowance; work: () => void; done: () => number } {
  const clock = new SimulatedClock()
  let busyMs = 0
  let done = 0
  const allowance = new Allowance({ now: () => clock.now() + busyMs, later: (ms, then) => clock.later(ms, then), soon: (then) => clock.soon(then) })
  return { clock, allowance, done: () => done, work: () => {
    busyMs += costMs
    done++
  } }
}

t.test('strangers get a tenth of a core all together, however many they are', (t) => {
  const { allowance, clock, done, work } = working(0.7)
  let refused = 0
  for (let i = 0; i < 40_000; i++) {
    if (allowance.spend(`source ${String(i)}`, false, work) === undefined) refused++
    pass(clock, 0.5)
  }
  const share = (done() * 0.7) / (clock.now() + done() * 0.7)
  t.ok(share > 0.08 && share < 0.115, `${(share * 100).toFixed(1)} % of a core`)
  t.ok(refused > 10_000, `${String(refused)} were refused`)
  t.end()
})

t.test('work for who proves to be no stranger does not count', (t) => {
  const { allowance, clock, done, work } = working(0.7)
  for (let i = 0; i < 5_000; i++) {
    allowance.spend('an agent', false, work)!.giveBack()
    pass(clock, 0)
  }
  t.equal(done(), 5_000)
  t.end()
})

t.test('each source has its turn, and who is known goes first', (t) => {
  const { allowance, clock, work } = working(200)
  const order: string[] = []
  const ask = (who: string, known: boolean): void => void allowance.spend(who, known, () => {
    work()
    order.push(who)
  })
  ask('fills it', false)
  ask('fills it', false)
  for (let i = 0; i < 50; i++) ask('many', false)
  ask('one', false)
  ask('known', true)
  clock.run(() => order.length >= 6, 60_000)
  t.same(order.slice(0, 6), ['fills it', 'fills it', 'known', 'many', 'one', 'many'])
  t.end()
})

t.test('a source is an address of IPv4, or a network of IPv6', (t) => {
  for (const [peer, source] of [
    ['203.0.113.9', '203.0.113.9'],
    ['pipe', 'pipe'],
    ['unknown', 'unknown'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::6', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:2:ffff::', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ] as const) t.equal(sourceOf(peer), source, peer)
  t.end()
})

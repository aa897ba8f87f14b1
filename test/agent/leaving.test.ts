// A session that is left ends when nothing is under way on it, or when its time is over, and who is in a hurry need not wait for who is not.
import t from 'tap'
import { leave } from '../../agent/leaving.ts'
import type { Serving } from '../../agent/serving.ts'
import { SimulatedClock } from '../protocol/simulation.ts'

const MINUTE_MS = 60_000

function serving(): { one: Serving; told: string[]; is: { idle: boolean; ended: boolean } } {
  const told: string[] = []
  const is = { idle: false, ended: false }
  const session = { drain: () => told.push('drain'), get ended() { return is.ended }, allArrived: true }
  const close = (): void => {
    told.push('close')
    is.ended = true
  }
  const one = { session, settled: true, get idle() { return is.ended || is.idle }, retire: () => told.push('retire'), close }
  return { one: one as unknown as Serving, told, is }
}

/** Lets time pass; what awaits runs in between. */
async function pass(clock: SimulatedClock, ms: number): Promise<void> {
  const until = clock.now() + ms
  while (clock.now() < until) {
    clock.run(() => false, 0)
    await new Promise<void>((resolve) => void setImmediate(resolve))
    if (!clock.run(() => true, 0)) return
    const before = clock.now()
    clock.run(() => clock.now() > before, until - before)
    if (clock.now() === before) return
  }
}

t.test('what is under way has so long as is said, and no longer than that', async (t) => {
  const clock = new SimulatedClock()
  const { one, told } = serving()
  void leave(one, clock, 60 * MINUTE_MS)
  await pass(clock, 50 * MINUTE_MS)
  t.same(told, ['retire', 'drain'])
  await pass(clock, 12 * MINUTE_MS)
  t.same(told, ['retire', 'drain', 'close'])
})

t.test('it ends soon after what was under way, and at once for who leaves it a second time in a hurry', async (t) => {
  const clock = new SimulatedClock()
  const [patient, hurried] = [serving(), serving()]
  for (const { one } of [patient, hurried]) void leave(one, clock, 60 * MINUTE_MS)
  await pass(clock, 10 * MINUTE_MS)
  patient.is.idle = true
  await pass(clock, 10_000)
  t.equal(patient.told.at(-1), 'close')
  void leave(hurried.one, clock)
  await pass(clock, 40_000)
  t.same(hurried.told.filter((word) => word === 'close'), ['close'])
})

t.test('of one that somebody else ended after an hour nothing is left a second later', async (t) => {
  const clock = new SimulatedClock()
  const { one, is } = serving()
  let over = false
  void leave(one, clock, 60 * MINUTE_MS).then(() => (over = true))
  await pass(clock, 50 * MINUTE_MS)
  t.notOk(over)
  is.ended = true
  await pass(clock, 1_100)
  t.ok(over)
})

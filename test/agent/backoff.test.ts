// Tries are quick while visitors wait, whatever came before, and seldom in the long run.
import t from 'tap'
import { Backoff } from '../../agent/backoff.ts'
import { AGENT_BUDGET_BYTES } from '../../protocol/limits.ts'
import { environment, Random, SimulatedClock } from '../protocol/simulation.ts'

/** The longest waits that chance allows. */
function start(): { backoff: Backoff; clock: SimulatedClock; wait: () => number } {
  const clock = new SimulatedClock()
  const unlucky = { ...environment(clock, new Random(1), AGENT_BUDGET_BYTES), random: (bytes: number) => Buffer.alloc(bytes, 0xff) }
  const backoff = new Backoff(unlucky)
  const wait = (): number => {
    const ms = backoff.nextMs()
    clock.later(ms, () => undefined)
    clock.run(() => false, ms)
    return ms
  }
  return { backoff, clock, wait }
}

t.test('three quick tries, each second for ten, then up to half a minute', (t) => {
  const { wait } = start()
  const waits = Array.from({ length: 18 }, wait)
  t.same(waits.slice(0, 3), [100, 500, 1_000])
  t.same(waits.slice(3, 12), Array.from({ length: 9 }, () => 1_000))
  t.same(waits.slice(12), [2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
  t.end()
})

t.test('a gateway that restarts four times in ten seconds is met within a second of each', (t) => {
  const { backoff, wait } = start()
  for (let restart = 0; restart < 4; restart++) {
    // Away for 2.5 s, then there for a moment.
    for (let away = 0; away < 2_500; ) {
      const ms = wait()
      t.ok(ms <= 1_000, String(ms))
      away += ms
    }
    backoff.lost(100)
  }
  t.end()
})

t.test('after a channel that held it counts from the start, after one that did not from the second', (t) => {
  const { backoff, wait } = start()
  for (let i = 0; i < 20; i++) wait()
  backoff.lost(10)
  t.equal(wait(), 500)
  backoff.lost(500)
  t.equal(wait(), 100)
  t.end()
})

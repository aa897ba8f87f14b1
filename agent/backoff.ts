// When to try again: quick tries while visitors wait, then full jitter up to 30 s; from the start again once a channel has held.
import type { Environment } from '../protocol/environment.ts'

/** What most often breaks a channel (a reload, a roaming laptop) is over within these. Jittered, so that a thousand agents do not come as one. */
const QUICK_MS = [100, 500, 1_000] as const
/** A gateway lets a visitor wait 5 s for an agent to come back; one that restarts again and again is met within that, however many tries it takes. */
const QUICK_FOR_MS = 10_000
const FIRST_SLOW_MS = 2_000
const SLOWEST_MS = 30_000
/**
 * A channel that lived so long was a good one: whatever comes next counts from the start again. One that lived less, but did carry the
 * session, costs the first quick try: visitors wait for the next, and an agent that flaps still waits a quarter of a second on average.
 */
const HEALTHY_MS = 500

export class Backoff {
  private readonly environment: Environment
  private tries = 0
  private since: number | undefined
  private slow = 0

  constructor(environment: Environment) {
    this.environment = environment
  }

  /** What carried the session for so long is gone. */
  lost(livedMs: number): void {
    this.tries = livedMs >= HEALTHY_MS ? 0 : Math.min(this.tries, 1)
    this.since = undefined
    this.slow = 0
  }

  /** How long to wait before the next try, in ms. */
  nextMs(): number {
    const now = this.environment.clock.now()
    this.since ??= now
    return Math.round((this.environment.random(4).readUInt32BE(0) / 2 ** 32) * this.capMs(now - this.since))
  }

  private capMs(triedForMs: number): number {
    const quick = QUICK_MS[Math.min(this.tries++, QUICK_MS.length - 1)]!
    if (this.tries <= QUICK_MS.length || triedForMs < QUICK_FOR_MS) return quick
    return Math.min(SLOWEST_MS, FIRST_SLOW_MS * 2 ** Math.min(this.slow++, 10))
  }
}

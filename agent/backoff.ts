// When to try again: three quick tries, then full jitter up to 30 s; from the start again once a channel has held.
import type { Environment } from '../protocol/environment.ts'

/** What most often breaks a channel (a reload, a roaming laptop) is over within these. Jittered, so that a thousand agents do not come as one. */
const QUICK_MS = [100, 500, 1_000] as const
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
  private heldSince: number | undefined

  constructor(environment: Environment) {
    this.environment = environment
  }

  /** A channel carries the session. */
  held(): void {
    this.heldSince = this.environment.clock.now()
  }

  /** How long to wait before the next try, in ms. */
  nextMs(): number {
    if (this.heldSince !== undefined) this.tries = this.environment.clock.now() - this.heldSince >= HEALTHY_MS ? 0 : Math.min(this.tries, 1)
    this.heldSince = undefined
    const quick = QUICK_MS[this.tries]
    const cap = quick ?? Math.min(SLOWEST_MS, FIRST_SLOW_MS * 2 ** Math.min(this.tries - QUICK_MS.length, 10))
    this.tries++
    return Math.round((this.environment.random(4).readUInt32BE(0) / 2 ** 32) * cap)
  }
}

// Who guessed wrong lately, by a name: each wrong try is paid for by time, and the table of them does not grow (SPEC §3).
import type { Clock } from '../protocol/clock.ts'
import { Recent } from './recent.ts'

/** Some 200 bytes each. Whoever has more names than this loses the oldest; each name begins with what {@link FREE_COUNT} grants all the same. */
export const PENALTIES_MAX_COUNT = 65_536
/** What a wrong try costs: so many a second are what a name can go on with. */
export const PENALTY_MS = 1_000
/** Wrong tries that are free: an old join string in a service that starts again at once is no attack. */
export const FREE_COUNT = 10
/** What a name can owe at most: who stops guessing is free again in this time, as OpenSSH has it (PerSourcePenalties max). */
const OWED_MAX_MS = 600_000

interface Entry {
  /** When all is paid. */
  paidAt: number
  /** Tries under way. They count as wrong ones while something is owed: many at once gain nothing. */
  pending: number
}

export class Penalties {
  private readonly entries = new Recent<Entry>(PENALTIES_MAX_COUNT)
  private readonly clock: Pick<Clock, 'now'>

  constructor(clock: Pick<Clock, 'now'>) {
    this.clock = clock
  }

  get size(): number {
    return this.entries.size
  }

  /** How long the next try of `name` has to wait. */
  waitMs(name: string): number {
    const entry = this.entries.get(name)
    const now = this.clock.now()
    if (entry === undefined || entry.paidAt <= now) return 0
    return Math.max(0, entry.paidAt - now + (entry.pending - FREE_COUNT) * PENALTY_MS)
  }

  began(name: string): void {
    this.touch(name).pending++
  }

  ended(name: string, wrong: boolean): void {
    const entry = this.touch(name)
    const now = this.clock.now()
    entry.pending = Math.max(0, entry.pending - 1)
    if (wrong) entry.paidAt = Math.min(Math.max(entry.paidAt, now) + PENALTY_MS, now + OWED_MAX_MS)
    if (entry.pending === 0 && entry.paidAt <= now) this.entries.delete(name)
  }

  private touch(name: string): Entry {
    const entry = this.entries.get(name) ?? { paidAt: 0, pending: 0 }
    this.entries.set(name, entry)
    return entry
  }
}

// Climbing: while an agent serves by less than the best way, it looks for a better one, ever more seldom, and from the start again once it has found one.
import type { Candidate } from './candidates.ts'
import { race, type Racer, type Winner } from './race.ts'

/** When it looks: at first after so long, then after twice as long each time. */
export interface ClimbTimes {
  readonly firstMs: number
  readonly mostMs: number
}

/** Soon enough that whoever walked out of a bad network notices, seldom enough that a network that forbids something is not asked all day. */
export const CLIMB_TIMES: ClimbTimes = { firstMs: 30_000, mostMs: 600_000 }

export interface ClimbOptions {
  readonly times: ClimbTimes
  readonly racer: Racer
  /** Those better than what there is that are worth a try. */
  readonly better: () => readonly Candidate[]
  readonly found: (winner: Winner) => void
}

export class Climb {
  private readonly options: ClimbOptions
  private waitMs: number
  private cancel: (() => void) | undefined

  constructor(options: ClimbOptions) {
    this.options = options
    this.waitMs = options.times.firstMs
  }

  /** Is there something better than what there is? Said again whenever that may have changed. */
  watch(lesser: boolean): void {
    if (lesser) this.cancel ??= this.options.racer.environment.clock.later(this.waitMs, () => this.look())
    else {
      this.stop()
      this.waitMs = this.options.times.firstMs
    }
  }

  stop(): void {
    this.cancel?.()
    this.cancel = undefined
  }

  private look(): void {
    const { better, found, racer, times } = this.options
    const candidates = better()
    // Whatever is shunned is so for minutes only; to see whether it still is costs nothing.
    if (candidates.length === 0) return this.again(this.waitMs)
    this.cancel = race(candidates, racer, (outcome) => {
      if ('reason' in outcome) return this.again(Math.min(2 * this.waitMs, times.mostMs))
      this.again(times.firstMs)
      found(outcome)
    })
  }

  private again(waitMs: number): void {
    this.waitMs = waitMs
    this.cancel = undefined
    this.watch(true)
  }
}

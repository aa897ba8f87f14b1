// Waits of one length for many: a list in the order in which they began, looked at once a second, instead of a timer for each.
import type { Clock } from '../protocol/clock.ts'

/** A wait may last longer than it should by this: none of them is shorter than some seconds. */
const SWEEP_MS = 1_000

/** What waits. It is in one list at a time at most; the members are the list's business. */
export interface Waiter {
  waitsSince: number
  waitsIn: Deadlines | undefined
  waitsBefore: Waiter | undefined
  waitsAfter: Waiter | undefined
  /** The wait was too long; it is out of the list already. */
  waitedTooLong(list: Deadlines): void
}

export class Deadlines {
  readonly waitMs: number
  count = 0
  private readonly clock: Clock
  private first: Waiter | undefined
  private last: Waiter | undefined
  private sweeping = false
  private readonly sweep = (): void => {
    this.sweeping = false
    const now = this.clock.now()
    while (this.first !== undefined && now - this.first.waitsSince >= this.waitMs) {
      const waiter = this.first
      this.remove(waiter)
      waiter.waitedTooLong(this)
    }
    this.keepSweeping()
  }

  constructor(clock: Clock, waitMs: number) {
    this.clock = clock
    this.waitMs = waitMs
  }

  add(waiter: Waiter): void {
    waiter.waitsSince = this.clock.now()
    waiter.waitsIn = this
    waiter.waitsBefore = this.last
    waiter.waitsAfter = undefined
    if (this.last === undefined) this.first = waiter
    else this.last.waitsAfter = waiter
    this.last = waiter
    this.count++
    this.keepSweeping()
  }

  remove(waiter: Waiter): void {
    const { waitsBefore: before, waitsAfter: after } = waiter
    if (before === undefined) this.first = after
    else before.waitsAfter = after
    if (after === undefined) this.last = before
    else after.waitsBefore = before
    waiter.waitsIn = undefined
    waiter.waitsBefore = undefined
    waiter.waitsAfter = undefined
    this.count--
  }

  /** Those that wait now, in order. */
  all(): Waiter[] {
    const all: Waiter[] = []
    for (let waiter = this.first; waiter !== undefined; waiter = waiter.waitsAfter) all.push(waiter)
    return all
  }

  private keepSweeping(): void {
    if (this.sweeping || this.first === undefined) return
    this.sweeping = true
    this.clock.later(Math.min(SWEEP_MS, this.waitMs), this.sweep)
  }
}

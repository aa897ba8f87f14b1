// Credit: how far a sender may send, and the budgets that a window's growth is paid from (SPEC §11).
import { CREDIT_WINDOW_MAX_BYTES, FIRST_CREDIT_BYTES, ROUND_TRIP_FLOOR_MS, SCARCE_CREDIT_BYTES } from './limits.ts'

/** Growth stops, and new windows are small, beyond this share of a budget: the rest is for newcomers. */
const SCARCE_SHARE = 0.75

/** Bytes that windows may hold together. A session's budget has its process's as `parent`; both are charged. */
export class Budget {
  readonly limitBytes: number
  usedBytes = 0
  private readonly parent: Budget | undefined

  constructor(limitBytes: number, parent?: Budget) {
    this.limitBytes = limitBytes
    this.parent = parent
  }

  get scarce(): boolean {
    return this.usedBytes > this.limitBytes * SCARCE_SHARE || (this.parent?.scarce ?? false)
  }

  /** Nothing is left even for first windows: refuse new exchanges. Asked of the process's budget; a session's own only makes its newcomers small. */
  get full(): boolean {
    return this.usedBytes >= this.limitBytes
  }

  /** For a window's growth: refused when it would make the budget scarce. */
  grow(bytes: number): boolean {
    if (!this.fits(bytes)) return false
    this.take(bytes)
    return true
  }

  /** For a first window: always given, since no stream may wait for another stream's reader. */
  take(bytes: number): void {
    this.usedBytes += bytes
    this.parent?.take(bytes)
  }

  give(bytes: number): void {
    this.take(-bytes)
  }

  private fits(bytes: number): boolean {
    return this.usedBytes + bytes <= this.limitBytes * SCARCE_SHARE && (this.parent?.fits(bytes) ?? true)
  }
}

/** The receiver's side of one direction of one stream. */
export class Window {
  /** Up to which byte the sender may send. */
  limit: number
  private size: number
  private received = 0
  private consumed = 0
  private takenFrom: number
  private takenAt: number
  private readonly budget: Budget

  constructor(budget: Budget, now: number) {
    this.size = budget.scarce ? SCARCE_CREDIT_BYTES : FIRST_CREDIT_BYTES
    this.limit = this.size
    this.takenFrom = 0
    this.takenAt = now
    this.budget = budget
    budget.take(this.size)
  }

  /** Counts what came; false if the sender went beyond its credit. */
  receive(bytes: number, allowed: number): boolean {
    this.received += bytes
    return this.received <= Math.max(this.limit, allowed)
  }

  /** Counts what the consumer took; true if there is new credit to be told (it is in `limit`). */
  consume(bytes: number, now: number, roundTripMs: number): boolean {
    this.consumed += bytes
    if (this.consumed - this.takenFrom >= this.size) this.windowTaken(now, roundTripMs)
    if (this.limit - this.consumed > this.size / 2) return false
    this.limit = this.consumed + this.size
    return true
  }

  release(): void {
    this.budget.give(this.size)
    this.size = 0
  }

  private windowTaken(now: number, roundTripMs: number): void {
    const fast = now - this.takenAt <= 2 * Math.max(roundTripMs, ROUND_TRIP_FLOOR_MS)
    if (fast && this.size < CREDIT_WINDOW_MAX_BYTES) {
      const growth = Math.min(this.size, CREDIT_WINDOW_MAX_BYTES - this.size)
      if (this.budget.grow(growth)) this.size += growth
    }
    this.takenFrom = this.consumed
    this.takenAt = now
  }
}

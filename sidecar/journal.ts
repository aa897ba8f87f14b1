// What happens on the hot path, kept in memory until the store's thread takes it: in batches, a few a second however much happens, and bounded.
import type { Clock } from '../protocol/clock.ts'

/** Something for the history; `at` on the gateway’s clock. */
export interface HappeningNote {
  readonly at: number
  readonly kind: string
  readonly subject: string
  readonly who: string
  readonly detail: Readonly<Record<string, unknown>>
}

/** An exchange that is over; times on the gateway's clock. */
export interface ExchangeNote {
  readonly at: number
  readonly uuid: string
  readonly service: string
  readonly agent: string | null
  readonly method: string
  /** Without its query. */
  readonly path: string
  readonly status: number | null
  readonly error: string | null
  readonly waitMs: number
  readonly headMs: number | null
  readonly totalMs: number
  readonly sentBytes: number
  readonly receivedBytes: number
}

export interface Batch {
  /** The gateway's clock when it left: the times in it are on that clock. */
  readonly now: number
  readonly happenings: readonly HappeningNote[]
  readonly exchanges: readonly ExchangeNote[]
  /** Happenings that found no room. */
  readonly leftOut: number
}

/** A batch leaves so long after the first thing in it. */
const BATCH_MS = 250
/** Exchanges in a batch: of more a second than four times this, some are not in the history. To write one costs 10 µs in another thread and 2 µs here. */
const EXCHANGES_MAX_COUNT = 128
/** The same for those that failed, which are looked for more often. */
const FAILED_MAX_COUNT = 128
/** Happenings that wait: 10,000 agents may come at once. */
const HAPPENINGS_MAX_COUNT = 20_000

export class Journal {
  private readonly clock: Clock
  private readonly send: (batch: Batch) => void
  private happenings: HappeningNote[] = []
  private exchanges: ExchangeNote[] = []
  private failed = 0
  private leftOut = 0
  /** A batch is on its way to the disk: the next leaves when it is there. */
  private writing = false
  private waits: (() => void) | undefined

  constructor(clock: Clock, send: (batch: Batch) => void) {
    this.clock = clock
    this.send = send
  }

  happened(kind: string, subject: string, who: string, detail: Readonly<Record<string, unknown>> = {}): void {
    if (this.happenings.length >= HAPPENINGS_MAX_COUNT) this.leftOut++
    else this.happenings.push({ at: this.clock.now(), kind, subject, who, detail })
    this.arm()
  }

  /** Is there room for an exchange more in this batch? */
  hasRoom(failed: boolean): boolean {
    return failed ? this.failed < FAILED_MAX_COUNT : this.exchanges.length - this.failed < EXCHANGES_MAX_COUNT
  }

  /** To be asked for room before. */
  exchange(note: ExchangeNote): void {
    if (note.error !== null) this.failed++
    this.exchanges.push(note)
    this.arm()
  }

  /** The batch before is written, or was refused. */
  written(): void {
    this.writing = false
    if (this.happenings.length + this.exchanges.length + this.leftOut > 0) this.arm()
  }

  /** Sends what is here at once. */
  flush(): void {
    this.waits?.()
    this.waits = undefined
    if (this.happenings.length + this.exchanges.length + this.leftOut === 0) return
    const batch = { now: this.clock.now(), happenings: this.happenings, exchanges: this.exchanges, leftOut: this.leftOut }
    this.happenings = []
    this.exchanges = []
    this.failed = 0
    this.leftOut = 0
    this.writing = true
    this.send(batch)
  }

  private arm(): void {
    if (this.writing || this.waits !== undefined) return
    this.waits = this.clock.later(BATCH_MS, () => {
      this.waits = undefined
      this.flush()
    })
  }
}

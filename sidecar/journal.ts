// What happens on the hot path, kept in memory until the store's thread takes it: in batches, a few a second however much happens, and bounded.
import type { Clock } from '../protocol/clock.ts'
import type { ErrorCode } from '../protocol/errors.ts'
import type { Request } from './carry.ts'
import type { ExchangeFacts, Happening } from './store-history.ts'

export interface Batch {
  /** The gateway's clock when it left: every `at` in it is on that clock, until the store's thread has made it the time of day. */
  readonly now: number
  readonly happenings: readonly Happening[]
  readonly exchanges: readonly ExchangeFacts[]
  /** Happenings that found no room. */
  readonly leftOut: number
}

/** An exchange as it is when it is over; times on the gateway's clock, 0 as long as it has not come to that. */
export interface Traced {
  readonly request: Request
  /** '' if it was sent to none. */
  readonly agent: string
  readonly began: number
  readonly sentAt: number
  readonly headAt: number
  /** Of the answer that came; '' if none did. */
  readonly status: string
  readonly code: ErrorCode | undefined
  readonly sentBytes: number
  readonly receivedBytes: number
}

const PATH_MAX_CHARACTERS = 1_024

function noteOf({ request, agent, began, sentAt, headAt, status, code, sentBytes, receivedBytes }: Traced, now: number): ExchangeFacts {
  const { uuid, service, fields } = request
  const target = fields[7]!
  const end = target.indexOf('?')
  return {
    at: began,
    uuid,
    service,
    agent: agent === '' ? null : agent,
    method: fields[1]!,
    path: target.slice(0, Math.min(end === -1 ? target.length : end, PATH_MAX_CHARACTERS)),
    status: status !== '' ? Number(status) : code === undefined || code.status === 0 ? null : code.status,
    error: code?.name ?? null,
    waitMs: (sentAt === 0 ? now : sentAt) - began,
    headMs: headAt === 0 ? null : headAt - began,
    totalMs: now - began,
    sentBytes,
    receivedBytes,
  }
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
  private happenings: Happening[] = []
  private exchanges: ExchangeFacts[] = []
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

  /** An exchange is over. One that finds no room in this batch is not even looked at. */
  over(exchange: Traced): void {
    const isFailed = exchange.code !== undefined && exchange.code.fault !== 'nobody'
    if (isFailed ? this.failed >= FAILED_MAX_COUNT : this.exchanges.length - this.failed >= EXCHANGES_MAX_COUNT) return
    if (isFailed) this.failed++
    this.exchanges.push(noteOf(exchange, this.clock.now()))
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

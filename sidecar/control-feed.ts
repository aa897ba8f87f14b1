// What happens, as it comes, for whoever reads along (server-sent events): the history, of which nothing is missed, and exchanges, as far as they are taken in time.
import type { ServerResponse } from 'node:http'
import { type Desk, moment } from './control-desk.ts'
import type { ExchangeShown, HistoryShown } from './control-schemas.ts'
import type { ExchangeFilter, StoredExchange, StoredHappening } from './store-history.ts'

/** Entries that a feed reads at once: it goes on when they are taken. */
const FEED_STEP_COUNT = 200
/** Below the time after which proxies cut what is silent. */
const FEED_BEAT_MS = 15_000
/** A reader that does not take a step's entries in so long is let go: places are few, and it may come back and go on where it was. */
const FEED_STALL_MS = 60_000

export const historyShown = ({ at, ...entry }: StoredHappening): HistoryShown => ({ ...entry, at: moment(at)! })
export const exchangeShown = ({ at, waitMs, headMs, totalMs, sentBytes, receivedBytes, ...one }: StoredExchange): ExchangeShown => ({
  ...one, at: moment(at)!, wait_ms: waitMs, head_ms: headMs, total_ms: totalMs, sent_bytes: sentBytes, received_bytes: receivedBytes,
})

/** Which exchanges a feed is to have. */
type FeedFilter = Omit<ExchangeFilter, 'uuid'>

/** An exchange with the event that tells of it, which is the same for every reader. It has no id: a reader that comes back goes on where it was in the history. */
export interface Told {
  readonly exchange: StoredExchange
  readonly event: string
}

export const toldOf = (exchange: StoredExchange): Told => ({ exchange, event: `event: exchange\ndata: ${JSON.stringify(exchangeShown(exchange))}\n\n` })

export interface FeedOptions {
  /** The id of the last entry of the history that its reader has. */
  readonly from: number
  /** Undefined: no exchanges. */
  readonly wanted: FeedFilter | undefined
  readonly onClose: () => void
  /** How often it beats, and what a reader may take for what it was sent. */
  readonly times?: { readonly beatMs: number; readonly stallMs: number }
}

/** One reader. Nothing is held for it: of the history it reads on when it has taken what was there, and exchanges that come before it has are left out and counted. */
export class Feed {
  private readonly desk: Pick<Desk, 'listeners' | 'store'>
  private readonly response: ServerResponse
  private readonly wanted: FeedFilter | undefined
  private last: number
  private leftOut = 0
  private waits = false
  private waitsSince = 0

  constructor(desk: Pick<Desk, 'listeners' | 'store'>, response: ServerResponse, { from, wanted, onClose, times = { beatMs: FEED_BEAT_MS, stallMs: FEED_STALL_MS } }: FeedOptions) {
    this.desk = desk
    this.response = response
    this.wanted = wanted
    this.last = from
    const more = (): void => this.more()
    const beat = setInterval(() => {
      if (!this.waits) this.write(':\n\n')
      else if (performance.now() - this.waitsSince >= times.stallMs) response.destroy()
    }, times.beatMs)
    desk.listeners.add(more)
    response.on('drain', () => {
      this.waits = false
      this.sayLeftOut()
      this.more()
    })
    response.once('close', () => {
      clearInterval(beat)
      desk.listeners.delete(more)
      onClose()
    })
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
    this.write(':\n\n')
    this.more()
  }

  get hasExchanges(): boolean {
    return this.wanted !== undefined
  }

  /** Exchanges that are in the store just now. */
  exchanged(told: readonly Told[]): void {
    const { wanted } = this
    if (wanted === undefined) return
    const events = told.filter(({ exchange }) => isWanted(exchange, wanted)).map(({ event }) => event)
    if (this.waits) this.leftOut += events.length
    else if (events.length > 0) this.write(events.join(''))
  }

  private more(): void {
    while (!this.waits && !this.response.destroyed) {
      const entries = this.desk.store.history.since(this.last, FEED_STEP_COUNT)
      if (entries.length === 0) return
      this.last = entries.at(-1)!.id
      this.write(entries.map((entry) => `id: ${String(entry.id)}\nevent: ${entry.kind}\ndata: ${JSON.stringify(historyShown(entry))}\n\n`).join(''))
    }
  }

  private sayLeftOut(): void {
    if (this.leftOut > 0) this.write(`event: exchanges_left_out\ndata: ${JSON.stringify({ count: this.leftOut })}\n\n`)
    this.leftOut = 0
  }

  private write(text: string): void {
    this.waits = !this.response.write(text)
    if (this.waits) this.waitsSince = performance.now()
  }
}

const isWanted = (exchange: StoredExchange, { service, agent, error }: FeedFilter): boolean =>
  (service === undefined || exchange.service === service) && (agent === undefined || exchange.agent === agent) && (error === undefined || exchange.error === error)

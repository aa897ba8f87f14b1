// What happened: the history and the recent exchanges, from the newest back, and all of the history as it comes (server-sent events).
import type { ServerResponse } from 'node:http'
import { type Desk, limitOf, moment, pageOf } from './control-desk.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { exchange, type ExchangeShown, historyEntry, type HistoryShown, page, pageQuery, serviceName } from './control-schemas.ts'
import { record, text } from './schema-parts.ts'
import type { StoredExchange, StoredHappening } from './store-history.ts'

/** Ids are whole numbers from 1 on, the cursors of what goes back from the newest. */
const cursor = text({ pattern: '^[1-9][0-9]{0,14}$', description: 'the cursor that the page before gave as next' })
const NEWEST = Number.MAX_SAFE_INTEGER
/** Feeds at once. */
const FEEDS_MAX_COUNT = 64
/** Entries that a feed reads at once: it goes on when they are taken. */
const FEED_STEP_COUNT = 200
/** Below the time after which proxies cut what is silent. */
const FEED_BEAT_MS = 15_000

const shown = ({ at, ...entry }: StoredHappening): HistoryShown => ({ ...entry, at: moment(at)! })
const exchangeShown = ({ at, waitMs, headMs, totalMs, sentBytes, receivedBytes, ...one }: StoredExchange): ExchangeShown => ({
  ...one, at: moment(at)!, wait_ms: waitMs, head_ms: headMs, total_ms: totalMs, sent_bytes: sentBytes, received_bytes: receivedBytes,
})
const idOf = ({ id }: { readonly id: number }): string => String(id)

export function historyOperations(desk: Desk): Operation[] {
  const { history } = desk.store
  const feeds = new Set<Feed>()
  return [
    operation({
      id: 'listHistory', method: 'GET', path: '/v1/history', scope: 'read',
      about: 'Connects, disconnects with their reasons, and changes with who made them; the newest first.',
      query: record({}, { ...pageQuery, after: cursor, subject: text({ maxLength: 255, description: 'of one resource, as agents/web-1' }), kind: text({ maxLength: 64 }) }),
      answers: { 200: page(historyEntry) },
      handle: ({ query: { after, subject, kind, ...query } }) => {
        const limit = limitOf(query)
        const rows = history.page(Number(after ?? NEWEST), limit + 1, { ...(subject === undefined ? {} : { subject }), ...(kind === undefined ? {} : { kind }) })
        return { status: 200, body: pageOf(rows.map(shown), limit, idOf) }
      },
    }),
    operation({
      id: 'listExchanges', method: 'GET', path: '/v1/exchanges', scope: 'read',
      about: 'Recent exchanges, the newest first. Of more than a few hundred a second some are left out, those that failed last.',
      query: record({}, {
        ...pageQuery, after: cursor, uuid: text({ pattern: '^[0-9a-f]{32}$' }), service: serviceName,
        agent: text({ maxLength: 255 }), error: text({ maxLength: 64, description: 'the code of what went wrong' }),
      }),
      answers: { 200: page(exchange) },
      handle: ({ query: { after, limit: asked, ...filter } }) => {
        const limit = limitOf(asked === undefined ? {} : { limit: asked })
        return { status: 200, body: pageOf(history.exchanges(Number(after ?? NEWEST), limit + 1, filter).map(exchangeShown), limit, idOf) }
      },
    }),
    operation({
      id: 'followEvents', method: 'GET', path: '/v1/events', scope: 'read', about: 'Each entry of the history as it comes, from now on or from Last-Event-ID.', answers: { 200: 'text/event-stream' },
      handle: ({ request, reply }) => {
        if (feeds.size >= FEEDS_MAX_COUNT) throw new Problem(503, 'too_many_feeds', `${String(FEEDS_MAX_COUNT)} feeds are open, and that is the most`)
        const asked = request.headers['last-event-id']
        const from = typeof asked === 'string' && /^[0-9]{1,15}$/.test(asked) ? Number(asked) : history.last
        reply.hijack()
        const feed = new Feed(desk, reply.raw, from, () => feeds.delete(feed))
        feeds.add(feed)
        return { status: 200 }
      },
    }),
  ]
}

/** One reader of the history. It holds nothing: it reads on when its reader has taken what was there. */
class Feed {
  private readonly desk: Desk
  private readonly response: ServerResponse
  private last: number
  private waits = false

  constructor(desk: Desk, response: ServerResponse, from: number, onClose: () => void) {
    this.desk = desk
    this.response = response
    this.last = from
    const more = (): void => this.more()
    const beat = setInterval(() => void response.write(':\n\n'), FEED_BEAT_MS)
    desk.listeners.add(more)
    response.on('drain', () => {
      this.waits = false
      this.more()
    })
    response.once('close', () => {
      clearInterval(beat)
      desk.listeners.delete(more)
      onClose()
    })
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' })
    response.write(':\n\n')
    this.more()
  }

  private more(): void {
    while (!this.waits && !this.response.destroyed) {
      const entries = this.desk.store.history.since(this.last, FEED_STEP_COUNT)
      if (entries.length === 0) return
      this.last = entries.at(-1)!.id
      this.waits = !this.response.write(entries.map((entry) => `id: ${String(entry.id)}\nevent: ${entry.kind}\ndata: ${JSON.stringify(shown(entry))}\n\n`).join(''))
    }
  }
}

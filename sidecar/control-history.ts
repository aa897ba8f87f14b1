// What happened: the history and the recent exchanges, from the newest back, and the feed of both as they come.
import { type Desk, limitOf, pageOf } from './control-desk.ts'
import { exchangeShown, Feed, historyShown, toldOf } from './control-feed.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { exchange, historyEntry, page, pageQuery, serviceName, yesNo } from './control-schemas.ts'
import { record, text } from './schema-parts.ts'

/** Ids are whole numbers from 1 on, the cursors of what goes back from the newest. */
const cursor = text({ pattern: '^[1-9][0-9]{0,14}$', description: 'the cursor that the page before gave as next' })
const NEWEST = Number.MAX_SAFE_INTEGER
/** Feeds at once. */
const FEEDS_MAX_COUNT = 64

/** Which exchanges: a list and the feed take the same. */
const whichExchanges = { service: serviceName, agent: text({ maxLength: 255 }), error: text({ maxLength: 64, description: 'the code of what went wrong' }) }
const idOf = ({ id }: { readonly id: number }): string => String(id)

export function historyOperations(desk: Desk): Operation[] {
  const { history } = desk.store
  const feeds = new Set<Feed>()
  desk.exchangeListeners.add((exchanges) => {
    const followers = [...feeds].filter(({ hasExchanges }) => hasExchanges)
    if (followers.length === 0) return
    const told = exchanges.map(toldOf)
    for (const feed of followers) feed.exchanged(told)
  })
  return [
    operation({
      id: 'listHistory', method: 'GET', path: '/v1/history', scope: 'read',
      about: 'Connects, disconnects with their reasons, and changes with who made them; the newest first.',
      query: record({}, { ...pageQuery, after: cursor, subject: text({ maxLength: 255, description: 'of one resource, as agents/web-1' }), kind: text({ maxLength: 64 }) }),
      answers: { 200: page(historyEntry) },
      handle: ({ query: { after, subject, kind, ...query } }) => {
        const limit = limitOf(query)
        const rows = history.page(Number(after ?? NEWEST), limit + 1, { ...(subject === undefined ? {} : { subject }), ...(kind === undefined ? {} : { kind }) })
        return { status: 200, body: pageOf(rows.map(historyShown), limit, idOf) }
      },
    }),
    operation({
      id: 'listExchanges', method: 'GET', path: '/v1/exchanges', scope: 'read',
      about: 'Recent exchanges, the newest first. Of more than a few hundred a second some are left out, those that failed last.',
      query: record({}, { ...pageQuery, after: cursor, uuid: text({ pattern: '^[0-9a-f]{32}$' }), ...whichExchanges }),
      answers: { 200: page(exchange) },
      handle: ({ query: { after, limit: asked, ...filter } }) => {
        const limit = limitOf(asked === undefined ? {} : { limit: asked })
        return { status: 200, body: pageOf(history.exchanges(Number(after ?? NEWEST), limit + 1, filter).map(exchangeShown), limit, idOf) }
      },
    }),
    operation({
      id: 'followEvents', method: 'GET', path: '/v1/events', scope: 'read',
      about: 'Each entry of the history as it comes, from now on or from Last-Event-ID; exchanges too, if asked for. Those not taken in time are left out, and exchanges_left_out says how many.',
      query: record({}, { exchanges: yesNo('exchanges that come from now on, too'), ...whichExchanges }),
      answers: { 200: 'text/event-stream' },
      handle: ({ request, reply, query: { exchanges, ...which } }) => {
        const wanted = exchanges === 'true' ? which : undefined
        if (wanted === undefined && Object.keys(which).length > 0) throw new Problem(400, 'invalid', 'service, agent and error say which exchanges, and go with exchanges=true')
        if (feeds.size >= FEEDS_MAX_COUNT) throw new Problem(503, 'too_many_feeds', `${String(FEEDS_MAX_COUNT)} feeds are open, and that is the most`)
        const asked = request.headers['last-event-id']
        const from = typeof asked === 'string' && /^[0-9]{1,15}$/.test(asked) ? Number(asked) : history.last
        reply.hijack()
        const feed: Feed = new Feed(desk, reply.raw, { from, wanted, onClose: () => feeds.delete(feed) })
        feeds.add(feed)
        return { status: 200 }
      },
    }),
  ]
}

// What is live and what happened: sessions that can be ended, routes, exchanges with their times, the history with who and why, and its feed.
import { spawn } from 'node:child_process'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { begin, HOST, read, visit } from '../system/visitor.ts'
import { ask, type Told } from './control-socket.ts'

const MAIN = join(import.meta.dirname, '../../sidecar/main.ts')

const gateway = await startGateway(t)
const MEGABYTE = Buffer.alloc(1_000_000, 'x')
const held = new Set<ServerResponse>()
const origin = await startOrigin(t, (request, response) => {
  if (request.url === '/held') held.add(response)
  // Whoever is answered before it has said all may leave the rest unsaid.
  else request.resume().on('end', () => response.end(request.url === '/large' ? MEGABYTE : 'ok'))
})
const nginx = await startNginx(t, { runDir: gateway.runDir })
const to = (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Told> => ask(gateway.runDir, method, path, body, headers)
const items = async <T>(path: string): Promise<T[]> => (await to('GET', path)).json.items as T[]
/** The exchange that was written last: a batch of them is some four times a second. */
const newest = async (): Promise<{ id: number; path: string }> => (await items<{ id: number; path: string }>('/v1/exchanges?limit=1'))[0] ?? { id: 0, path: 'none yet' }

/** Visits until the last one is seen, again each second: a batch that is full leaves out what comes then. */
async function visitUntilSeen(base: string, isSeen: (path: string) => boolean | Promise<boolean>, { query = '', ...how }: { query?: string; method?: string; body?: string } = {}): Promise<void> {
  let count = 0
  let at = 0
  await until(`a visit of ${base} is seen`, async () => {
    if (count > 0 && (await isSeen(`${base}-${String(count)}`))) return true
    if (count === 0 || performance.now() - at > 1_000) {
      at = performance.now()
      await visit({ port: nginx.port, path: `${base}-${String(++count)}${query}`, ...how })
    }
    return false
  })
}

interface Entry {
  readonly id: number
  readonly kind: string
  readonly subject: string
  readonly who: string
  readonly detail: Readonly<Record<string, unknown>>
}

interface Shown {
  readonly service: string
  readonly path: string
  readonly error: string | null
}

interface Followed {
  /** Entries of the history. */
  readonly events: readonly Entry[]
  readonly exchanges: readonly Shown[]
  readonly leftOut: () => number
  readonly ids: () => number[]
  /** The head is there. */
  readonly opened: Promise<Record<string, unknown>>
  readonly pause: () => void
  readonly resume: () => void
}

/** The feed of events: what came of it so far. */
function follow(t: Test, headers: Readonly<Record<string, string>> = {}, query = ''): Followed {
  const events: Entry[] = []
  const exchanges: Shown[] = []
  let leftOut = 0
  let answer: IncomingMessage
  const take = (block: string): void => {
    const [name, data] = ['event', 'data'].map((field) => new RegExp(`^${field}: (.*)$`, 'm').exec(block)?.[1])
    if (name === undefined || data === undefined) return
    if (/^id: [0-9]+$/m.test(block) === name.startsWith('exchange')) t.fail(`an entry of the history has an id, and nothing else has: ${block}`)
    if (name === 'exchange') exchanges.push(JSON.parse(data) as Shown)
    else if (name === 'exchanges_left_out') leftOut += (JSON.parse(data) as { count: number }).count
    else events.push(JSON.parse(data) as Entry)
  }
  let rest = ''
  let open: (fields: Record<string, unknown>) => void
  const opened = new Promise<Record<string, unknown>>((resolve) => (open = resolve))
  const asked = request({ socketPath: join(gateway.runDir, 'control.sock'), path: `/v1/events${query}`, headers, agent: false }, (response) => {
    answer = response
    open(response.headers)
    response.setEncoding('utf8')
    response.on('data', (part: string) => {
      const blocks = (rest + part).split('\n\n')
      rest = blocks.pop()!
      for (const block of blocks) take(block)
    })
    response.on('error', () => undefined)
  })
  asked.on('error', () => undefined)
  asked.end()
  t.teardown(() => asked.destroy())
  return { events, exchanges, leftOut: () => leftOut, ids: () => events.map(({ id }) => id), opened, pause: () => answer.pause(), resume: () => answer.resume() }
}

interface Tail {
  readonly lines: () => string[]
  /** What it said beside it. */
  readonly said: () => string
  /** Reads no more of it. */
  readonly leave: () => void
  readonly code: Promise<number | null>
}

/** `exchanges list --follow`. */
function tail(t: Test, ...args: readonly string[]): Tail {
  const child = spawn(process.execPath, [MAIN, 'exchanges', 'list', '--follow', '--run-dir', gateway.runDir, '--state-dir', gateway.stateDir, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const code = new Promise<number | null>((resolve) => child.once('close', resolve))
  let [text, said] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  child.stderr.setEncoding('utf8').on('data', (part: string) => (said += part))
  return { lines: () => text.split('\n').slice(0, -1), said: () => said, leave: () => child.stdout.destroy(), code }
}

const agent = await startAgent(t, { join: await gateway.addAgent('web-1', 'demo', HOST, nginx.url), target: origin.url, args: ['--channel', 'websocket'] })
await until('it is served', async () => (await visit({ port: nginx.port })).status === 200)

interface Counted {
  readonly sent_bytes: number
  readonly received_bytes: number
}

interface Session extends Counted {
  readonly id: string
  readonly exchanges: number
  readonly streams: number
  readonly channels: readonly (Counted & { readonly streams: number })[]
}

t.test('a session and its channels count the bytes each way, those of channels that are gone too, and what is in flight', async (t) => {
  const session = async (): Promise<Session> => (await items<Session>('/v1/sessions'))[0]!
  const more = (after: Counted, before: Counted): [number, number] => [after.sent_bytes - before.sent_bytes, after.received_bytes - before.received_bytes]
  const first = await session()
  t.equal((await visit({ port: nginx.port, method: 'POST', body: MEGABYTE })).status, 200)
  const second = await session()
  const [sent, little] = more(second, first)
  t.ok(sent >= MEGABYTE.length && sent < 1.1 * MEGABYTE.length, `${String(sent)} bytes to the agent`)
  t.ok(little < 0.1 * MEGABYTE.length, `${String(little)} bytes from it`)
  t.equal((await visit({ port: nginx.port, path: '/large' })).bytes, MEGABYTE.length)
  const third = await session()
  const [few, received] = more(third, second)
  t.ok(received >= MEGABYTE.length && received < 1.1 * MEGABYTE.length, `${String(received)} bytes from the agent`)
  t.ok(few < 0.1 * MEGABYTE.length, `${String(few)} bytes to it`)
  t.same(third.channels.map(({ sent_bytes, received_bytes }) => [sent_bytes, received_bytes]), [[third.sent_bytes, third.received_bytes]], 'its one channel carried all of it')
  const visitor = begin({ port: nginx.port, path: '/held' })
  visitor.request.end()
  await until('it is at the origin', () => held.size === 1)
  const busy = await session()
  t.match(busy, { exchanges: 1, channels: [{ streams: busy.streams }] })
  const table = await gateway.command('sessions', 'list')
  t.match(table, /^SESSION.* EXCHANGES +SENT +RECEIVED .*\n\S+ +web-1 .* 1 +1\.[01] MB +1\.[01] MB /)
  for (const response of held) response.end('ok')
  t.equal((await read(await visitor.answer)).status, 200)
  await until('the last of them is in the list, and comes to no feed that begins after', async () => (await newest()).path === '/held')
  t.equal(await gateway.command('sessions', 'disconnect', busy.id, '--channel', '0'), `channel 0 of session ${busy.id} is gone\n`)
  const moved = await until('another channel carries it', async () => {
    const now = await session()
    return now.channels.length > 0 ? now : undefined
  })
  t.equal(moved.id, first.id)
  t.ok(moved.sent_bytes > third.sent_bytes && moved.channels[0]!.sent_bytes < 0.1 * MEGABYTE.length, 'what the first channel carried is the session’s still')
})

t.test('exchanges are in the feed of whoever asks, as they are in the list, and only those that were asked for', async (t) => {
  const feeds = ['', '?exchanges=false', '?exchanges=true', '?exchanges=true&service=demo&agent=web-1', '?exchanges=true&service=other', '?exchanges=true&agent=other', '?exchanges=true&error=origin_refused'].map((query) => follow(t, {}, query))
  await Promise.all(feeds.map(({ opened }) => opened))
  await visit({ port: nginx.port, path: '/followed?secret=1' })
  const [, , all, some] = feeds as [Followed, Followed, Followed, Followed]
  await until('it is told', () => all.exchanges.length > 0 && some.exchanges.length > 0)
  t.same(all.exchanges, await items('/v1/exchanges?limit=1'))
  t.match(some.exchanges, [{ service: 'demo', path: '/followed' }])
  await to('PUT', '/v1/services/later', { hosts: ['later.test'] })
  await until('each has the history too', () => feeds.every(({ events }) => events.some(({ subject }) => subject === 'services/later')))
  t.same(feeds.map(({ exchanges }) => exchanges.length), [0, 0, 1, 1, 0, 0, 0])
  const [first] = all.ids()
  const again = follow(t, { 'last-event-id': String(first! - 1) }, '?exchanges=true')
  await until('a reader that comes back goes on where it was in the history', () => again.events.length === all.events.length)
  t.same([again.ids(), again.exchanges], [all.ids(), []])
  t.match(await to('GET', '/v1/events?service=demo'), { status: 400, json: { code: 'invalid' } })
  t.match(await to('GET', '/v1/events?exchanges=1'), { status: 400, json: { code: 'invalid' } })
})

t.test('what a slow reader of the feed does not take is left out, and it is told how many', async (t) => {
  const AT_ONCE_COUNT = 16
  // More than the buffers between hold.
  const WRITTEN_COUNT = 1_500
  // A batch of 128 follows the next when that is on the disk: a dozen times.
  const WRITTEN_MAX_MS = 60_000
  const path = `/${'long'.repeat(250)}`
  const { id: before } = await newest()
  const feeds = ['', '&agent=web-1', '&agent=other'].map((more) => follow(t, {}, `?exchanges=true${more}`))
  const [quick, slow, none] = feeds as [Followed, Followed, Followed]
  await Promise.all(feeds.map(({ opened }) => opened))
  slow.pause()
  none.pause()
  let more = true
  const visits = Array.from({ length: AT_ONCE_COUNT }, async () => {
    while (more) await visit({ port: nginx.port, path })
  })
  await until('many are written', async () => (await newest()).id - before >= WRITTEN_COUNT, { timeoutMs: WRITTEN_MAX_MS })
  more = false
  await Promise.all(visits)
  slow.resume()
  none.resume()
  const told = ({ exchanges, leftOut }: Followed): number => exchanges.length + leftOut()
  await until('each that was written has come or is counted', async () => {
    const written = (await newest()).id - before
    return told(slow) === written && told(quick) === written
  }, { timeoutMs: WRITTEN_MAX_MS })
  t.ok(slow.leftOut() > 0)
  t.ok(quick.leftOut() < slow.leftOut(), 'a reader that reads misses less')
  t.equal(told(none), 0, 'only what was asked for counts')
  await visitUntilSeen('/after', (path) => slow.exchanges.at(-1)?.path === path)
})

t.test('exchanges list --follow prints them as they come, as a table or as lines of JSON, until nobody reads any more', async (t) => {
  const table = tail(t, '--of', 'demo')
  const json = tail(t, '--json')
  const other = tail(t, '--of', 'other')
  // When they begin to follow is not told.
  await until('both have some', async () => {
    await visit({ port: nginx.port, path: '/tailed' })
    return table.lines().length > 3 && json.lines().length > 3
  })
  const [head, ...rows] = table.lines()
  t.match(head, /^AT +SERVICE +AGENT +METHOD +PATH +STATUS +ERROR +TOOK +UUID$/)
  for (const row of rows) t.match(row, /^\S+Z +demo +web-1 +GET +\/tailed +200 +- +\d+\.\d ms +[0-9a-f]{32}$/)
  t.equal(new Set([head!, ...rows].map((row) => row.indexOf(row.startsWith('AT') ? 'PATH' : '/tailed'))).size, 1, 'in columns')
  for (const line of json.lines()) t.match(JSON.parse(line), { service: 'demo', agent: 'web-1', path: '/tailed', status: 200 })
  t.same(other.lines(), [])
  for (const each of [table, json]) each.leave()
  let left = 0
  for (const { code } of [table, json]) void code.then(() => left++)
  await until('both have ended', async () => {
    await visit({ port: nginx.port, path: '/tailed' })
    return left === 2
  })
  t.same(await Promise.all([table.code, json.code]), [0, 0])
})

t.test('an exchange is in the list with its parts, those that failed with their code, and no query', async (t) => {
  await to('PUT', '/v1/services/empty', { hosts: ['empty.test'] })
  await visitUntilSeen('/paid', async (path) => (await newest()).path === path, { query: '?secret=1', method: 'POST', body: 'x'.repeat(1_000) })
  const [ok] = await items<Record<string, unknown>>('/v1/exchanges?service=demo&limit=1')
  t.match(ok, { service: 'demo', agent: 'web-1', method: 'POST', path: /^\/paid-\d+$/, status: 200, error: null, sent_bytes: 1_000, uuid: /^[0-9a-f]{32}$/, at: /Z$/ })
  t.ok(Number(ok!.wait_ms) >= 0 && Number(ok!.head_ms) >= Number(ok!.wait_ms) && Number(ok!.total_ms) >= Number(ok!.head_ms), 'its times are in their order')
  t.same((await items(`/v1/exchanges?uuid=${String(ok!.uuid)}`)).length, 1)
  t.same(await items('/v1/exchanges?agent=nobody'), [])
  t.notOk(JSON.stringify(await to('GET', '/v1/exchanges')).includes('secret=1'))
  origin.server.close()
  origin.server.closeAllConnections()
  t.equal((await visit({ port: nginx.port })).status, 502)
  await until('the failure is written', async () => (await items<{ error: string }>('/v1/exchanges?error=origin_refused')).length > 0)
  t.match((await items('/v1/exchanges?error=origin_refused'))[0], { status: 502, service: 'demo', agent: 'web-1' })
})

t.test('the history tells who came, who changed what, and its feed tells it as it happens', async (t) => {
  const feed = follow(t)
  t.match(await feed.opened, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  t.match((await items<Entry>('/v1/history?kind=session_began'))[0], { subject: 'agents/web-1', who: 'agent web-1', detail: { peer: '127.0.0.1' } })
  t.match((await items<Entry>('/v1/history?subject=services/demo')).map(({ kind, who }) => [kind, who]), [['service_up', 'gateway'], ['service_created', 'owner']])
  await to('PUT', '/v1/services/fed', { hosts: ['fed.test'] })
  await to('DELETE', '/v1/services/fed')
  await until('the feed has both', () => feed.events.length >= 2)
  t.match(feed.events.map(({ kind, subject, who }) => [kind, subject, who]), [['service_created', 'services/fed', 'owner'], ['service_deleted', 'services/fed', 'owner']])
  const [first] = feed.ids()
  const again = follow(t, { 'last-event-id': String(first) })
  await until('a reader that comes back goes on where it was', () => again.events.length === 1)
  t.equal(again.events[0]!.id, feed.ids()[1])
  t.same((await items<Entry>('/v1/history?limit=2')).map(({ id }) => id), feed.ids().reverse())
  const pages: number[] = []
  for (let after = ''; ; ) {
    const { items: page, next } = (await to('GET', `/v1/history?limit=2${after}`)).json as { items: Entry[]; next: string | null }
    pages.push(...page.map(({ id }) => id))
    if (next === null) break
    after = `&after=${next}`
  }
  t.same(pages, (await items<Entry>('/v1/history?limit=1000')).map(({ id }) => id), 'page by page it is the same')
})

t.test('a session shows how it came, and ending it, or a channel of it, is an entry of the history; its agent comes again', async (t) => {
  const [session] = await items<{ id: string; channels: object[] }>('/v1/sessions')
  t.match(session, { id: /^[0-9a-f]{32}$/, agent: 'web-1', since: /Z$/, attached: true, services: ['demo'], channels: [{ kind: 'websocket' }] })
  t.match(await to('GET', `/v1/sessions/${session!.id}`), { status: 200, json: { id: session!.id } })
  t.match(await items('/v1/routes'), [{ host: HOST, prefix: '/', service: 'demo', state: 'up' }, { host: 'empty.test', state: 'away' }])
  t.equal((await to('DELETE', `/v1/sessions/${session!.id}/channels/7`)).status, 404)
  t.equal((await to('DELETE', `/v1/sessions/${session!.id}/channels/0`)).status, 204)
  await until('another channel carries it', async () => {
    const [now] = await items<{ id: string; attached: boolean; channels: object[] }>('/v1/sessions')
    return now?.id === session!.id && now.attached && now.channels.length > 0
  })
  t.equal((await to('DELETE', `/v1/sessions/${session!.id}`)).status, 204)
  t.equal((await to('GET', `/v1/sessions/${session!.id}`)).status, 404)
  t.equal((await to('DELETE', `/v1/sessions/${session!.id}`)).status, 404)
  await until('its agent has another session', async () => (await items<{ id: string }>('/v1/sessions')).some(({ id }) => id !== session!.id))
  const ended = await until('it is written', async () => (await items<Entry>('/v1/history?kind=session_ended'))[0])
  t.match(ended, { subject: 'agents/web-1', detail: { session: session!.id, code: 'disconnected' } })
  t.match((await items<Entry>('/v1/history?kind=session_disconnected'))[0], { who: 'owner', detail: { session: session!.id } })
  t.match((await items<Entry>('/v1/history?kind=channel_disconnected'))[0], { who: 'owner', detail: { channel: 0 } })
})

t.test('what happened up to the end of a gateway that leaves is there when it comes again', async (t) => {
  const tailed = tail(t)
  await until('it follows', async () => {
    await visit({ port: nginx.port })
    return tailed.lines().length > 0
  })
  await agent.stop()
  t.equal(await gateway.stop(), 0)
  t.equal(await tailed.code, 4, 'and whoever followed it is told')
  t.match(tailed.said(), /control\.sock: the gateway went/)
  await gateway.restart()
  t.match((await items<Entry>('/v1/history?kind=session_ended&limit=1'))[0], { subject: 'agents/web-1' })
})

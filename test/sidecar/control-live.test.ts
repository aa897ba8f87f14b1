// What is live and what happened: sessions that can be ended, routes, exchanges with their times, the history with who and why, and its feed.
import { request, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { begin, HOST, read, visit } from '../system/visitor.ts'
import { ask, type Told } from './control-socket.ts'

t.setTimeout(60_000)
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

interface Entry {
  readonly id: number
  readonly kind: string
  readonly subject: string
  readonly who: string
  readonly detail: Readonly<Record<string, unknown>>
}

/** The feed of events: what came of it so far. */
function follow(t: Test, headers: Readonly<Record<string, string>> = {}): { events: Entry[]; ids: () => number[]; opened: Promise<Record<string, unknown>> } {
  const events: Entry[] = []
  let rest = ''
  let open: (fields: Record<string, unknown>) => void
  const opened = new Promise<Record<string, unknown>>((resolve) => (open = resolve))
  const asked = request({ socketPath: join(gateway.runDir, 'control.sock'), path: '/v1/events', headers, agent: false }, (response) => {
    open(response.headers)
    response.setEncoding('utf8')
    response.on('data', (part: string) => {
      const blocks = (rest + part).split('\n\n')
      rest = blocks.pop()!
      for (const block of blocks) for (const line of block.split('\n')) if (line.startsWith('data: ')) events.push(JSON.parse(line.slice(6)) as Entry)
    })
    response.on('error', () => undefined)
  })
  asked.on('error', () => undefined)
  asked.end()
  t.teardown(() => asked.destroy())
  return { events, ids: () => events.map(({ id }) => id), opened }
}

const agent = await startAgent(t, { join: await gateway.addAgent('web-1', 'demo', HOST, nginx.url), target: origin.url })
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
  t.equal(await gateway.command('sessions', 'disconnect', busy.id, '--channel', '0'), `channel 0 of session ${busy.id} is gone\n`)
  const moved = await until('another channel carries it', async () => {
    const now = await session()
    return now.channels.length > 0 ? now : undefined
  })
  t.equal(moved.id, first.id)
  t.ok(moved.sent_bytes > third.sent_bytes && moved.channels[0]!.sent_bytes < 0.1 * MEGABYTE.length, 'what the first channel carried is the session’s still')
})

t.test('an exchange is in the list with its parts, those that failed with their code, and no query', async (t) => {
  await visit({ port: nginx.port, path: '/paid?secret=1', method: 'POST', body: 'x'.repeat(1_000) })
  await to('PUT', '/v1/services/empty', { hosts: ['empty.test'] })
  const [ok] = await until('it is written', async () => {
    const found = await items<Record<string, unknown>>('/v1/exchanges?service=demo&limit=1')
    return found[0]?.path === '/paid' ? found : undefined
  })
  t.match(ok, { service: 'demo', agent: 'web-1', method: 'POST', path: '/paid', status: 200, error: null, sent_bytes: 1_000, uuid: /^[0-9a-f]{32}$/, at: /Z$/ })
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
  await agent.stop()
  t.equal(await gateway.stop(), 0)
  await gateway.restart()
  t.match((await items<Entry>('/v1/history?kind=session_ended&limit=1'))[0], { subject: 'agents/web-1' })
})

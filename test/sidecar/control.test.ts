// The control server's resources over its socket: what each takes, what it refuses and how it says so, and when a change is true.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { decodeJoin } from '../../protocol/join.ts'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { ask } from './control-socket.ts'

const gateway = await startGateway(t, { settings: { public_url: 'https://edge.test' } })
const { runDir, stateDir } = gateway
// A PATCH changes whatever is there, unless its case says otherwise.
const to = (method: string, path: string, body?: unknown, headers: Record<string, string> = method === 'PATCH' ? ANY : {}) => ask(runDir, method, path, body, headers)
const route = (name: string): string | undefined => {
  const path = join(runDir, 'routes', name)
  return existsSync(path) ? readFileSync(path, 'latin1') : undefined
}
const ANY = { 'if-match': '*' }
const service = (hosts: string[], more: object = {}) => ({ hosts, ...more })

type Case = [what: string, go: () => ReturnType<typeof to>, field?: string]

const WRONG_HOSTS = ['', '.', '..', '../x', '.mark', 'a..b', 'a.', '.a', 'a_b', 'a b', 'a/b', 'a:80', 'a@prefixes', '*.a', '+', '+.', '+a.b', 'a.+.b', 'ü.test', '[::1]', `${'a.'.repeat(123)}a`]
const WRONG_PREFIXES = ['', 'a', '/a/', '//', '/a//b', '/.', '/..', '/a/./b', '/a/../b', '/a/..', '/a%2fb', '/a?b', '/a#b', '/a b', '/a\\b', '/ä', '/"', `/${'a'.repeat(256)}`]

t.test('only its owner may connect, and health and readiness are told', async (t) => {
  t.equal(statSync(join(runDir, 'control.sock')).mode & 0o777, 0o600)
  t.match(await to('GET', '/v1/health'), { status: 200, json: { status: 'ok', version: /^\d/ } })
  t.match(await to('GET', '/v1/ready'), { status: 200, json: { ready: true, waits_for: [], exchanges: 0, sessions: 0 } })
  t.match(await to('GET', '/v1/sessions'), { status: 200, json: { items: [] } })
})

t.test('a service is made, shown, changed and removed, and its route files with it, before the answer', async (t) => {
  const made = await to('PUT', '/v1/services/shop', service(['Shop.Test', 'shop.test', '+.shop.test'], { prefixes: ['/', '/a/b'], conceal: true }))
  t.equal(route('shop.test'), '1 away h1 shop cp\n')
  t.equal(route('shop.test@prefixes'), '/a/b 1 away h1 shop c\n')
  t.ok(route('+.shop.test'))
  const shop = { name: 'shop', hosts: ['shop.test', '+.shop.test'], prefixes: ['/', '/a/b'], conceal: true, trailers: false, labels: [], origin: null, policy: {} }
  t.match(made, { status: 201, json: shop })
  const { created_at: created, ...rest } = (await to('GET', '/v1/services/shop')).json
  t.same(rest, shop)
  t.match(created, /^20\d\d-.*Z$/)
  t.match(await to('PUT', '/v1/services/shop', service(['new.test'], { trailers: true }), ANY), { status: 200, json: { hosts: ['new.test'], prefixes: ['/'], conceal: false, trailers: true } })
  t.equal(route('new.test'), '1 away h2 shop -\n')
  t.equal(route('shop.test'), undefined)
  const removed = await to('DELETE', '/v1/services/shop')
  t.equal(route('new.test'), undefined)
  t.match(removed, { status: 204, text: '' })
  t.match(await to('GET', '/v1/services/shop'), { status: 404, json: { code: 'not_found', detail: 'there is no service shop' } })
})

t.test('an agent is made with a secret that is shown once and kept nowhere', async (t) => {
  await to('PUT', '/v1/services/a', service(['a.test']))
  const made = await to('POST', '/v1/agents', { id: 'Agent.1', services: ['a'], url: 'http://other.test:8080' })
  t.match(made, { status: 201, headers: { location: '/v1/agents/Agent.1', 'cache-control': 'no-store' }, json: { id: 'Agent.1', services: ['a'] } })
  const { secret, url } = decodeJoin(String(made.json.join))
  t.equal(url, 'http://other.test:8080')
  t.equal(decodeJoin(String((await to('POST', '/v1/agents', { id: 'b', services: [] })).json.join)).url, 'https://edge.test')
  t.same(Object.keys((await to('GET', '/v1/agents/Agent.1')).json), ['id', 'services', 'labels', 'settings', 'disabled', 'expires_at', 'state', 'created_at', 'rotated_at'], 'neither secret nor record')
  t.match((await to('GET', '/v1/agents')).json.items, [{ id: 'Agent.1', services: ['a'] }, { id: 'b', services: [] }])
  const proc = `/proc/${String(gateway.pid())}`
  for (const path of [...readdirSync(stateDir).map((name) => join(stateDir, name)), `${proc}/cmdline`, `${proc}/environ`]) {
    const bytes = readFileSync(path)
    t.ok(bytes.length > 0, path)
    for (const form of [secret, Buffer.from(secret, 'base64url').toString('latin1'), String(made.json.join)]) t.notOk(bytes.includes(Buffer.from(form, 'latin1')), `not in ${path}`)
  }
  t.notOk(gateway.logs().includes(secret))
  for (const name of readdirSync(stateDir)) t.equal(statSync(join(stateDir, name)).mode & 0o777, 0o600, name)
  t.equal(statSync(stateDir).mode & 0o777, 0o700)
  t.match(await to('PATCH', '/v1/agents/Agent.1', { services: [] }), { status: 200, json: { id: 'Agent.1', services: [] } })
  for (const id of ['Agent.1', 'b']) t.equal((await to('DELETE', `/v1/agents/${id}`)).status, 204)
  t.equal((await to('DELETE', '/v1/services/a')).status, 204)
})

t.test('what stands against a change is a conflict that names it', async (t) => {
  await to('PUT', '/v1/services/one', service(['one.test', '+.one.test'], { prefixes: ['/', '/x'] }))
  await to('POST', '/v1/agents', { id: 'a', services: ['one'] })
  const two = (body: object) => to('PUT', '/v1/services/two', body)
  t.match(await two(service(['two.test', 'ONE.test'])), { status: 409, json: { code: 'taken', detail: 'one.test/ belongs to service one', errors: [{ field: 'hosts' }] } })
  t.match(await two(service(['one.test'], { prefixes: ['/y', '/x'] })), { status: 409, json: { code: 'taken', detail: 'one.test/x belongs to service one' } })
  t.match(await two(service(['one.test'], { prefixes: Array.from({ length: 63 }, (_v, i) => `/p${String(i)}`) })), { status: 409, json: { code: 'too_many_prefixes', detail: /one\.test would have 65 prefixes/ } })
  t.equal((await to('GET', '/v1/services/two')).status, 404, 'nothing of them was kept')
  t.match(await two(service(['one.test'], { prefixes: ['/y'] })), { status: 201 }, 'other places of the same hostname are free')
  t.match(await to('DELETE', '/v1/services/one'), { status: 409, json: { code: 'in_use', detail: 'agents may serve it: a' } })
  t.match(await to('POST', '/v1/agents', { id: 'a', services: [] }), { status: 409, json: { code: 'exists', errors: [{ field: 'id' }] } })
  t.match(await to('POST', '/v1/agents', { id: 'b', services: ['one', 'three', 'four'] }), {
    status: 409, json: { code: 'unknown_service', detail: 'there is no service four; there is no service three', errors: [{ field: 'services' }, { field: 'services' }] },
  })
  t.match(await to('PATCH', '/v1/agents/a', { services: ['three'] }), { status: 409, json: { code: 'unknown_service' } })
  t.match((await to('GET', '/v1/agents/a')).json, { id: 'a', services: ['one'] })
  for (const [method, path] of [['PATCH', '/v1/agents/b'], ['DELETE', '/v1/agents/b'], ['GET', '/v1/agents/b'], ['DELETE', '/v1/services/b']] as const) {
    t.match(await to(method, path, method === 'PATCH' ? { services: [] } : undefined), { status: 404, json: { code: 'not_found' } }, `${method} ${path}`)
  }
  for (const path of ['/v1/agents/a', '/v1/services/one', '/v1/services/two']) t.equal((await to('DELETE', path)).status, 204)
})

t.test('what is wrong in itself is refused, with the field', async (t) => {
  const agent = (body: unknown) => to('POST', '/v1/agents', body)
  const put = (body: unknown, name = 'x') => to('PUT', `/v1/services/${name}`, body)
  const host = (name: string) => put(service([name]))
  const prefix = (path: string) => put(service(['x.test'], { prefixes: [path] }))
  const wrong: Case[] = [
    ['no body', () => agent(undefined)],
    ['a list', () => agent([])],
    ['null', () => agent('null')],
    ['no id', () => agent({ services: [] }), 'id'],
    ['an unknown field', () => agent({ id: 'a', services: [], secret: 'mine' }), 'secret'],
    ['__proto__', () => agent('{"id":"a","services":[],"__proto__":{}}')],
    ['an id that is a number', () => agent({ id: 5, services: [] }), 'id'],
    ...['', '.a', '-a', 'a b', 'a/b', 'a\n', 'ä', 'a'.repeat(64)].map((id) => [`id ${JSON.stringify(id)}`, () => agent({ id, services: [] }), 'id'] as Case),
    ['services that are a text', () => agent({ id: 'a', services: 'x' }), 'services'],
    ['a service twice', () => agent({ id: 'a', services: ['x', 'x'] }), 'services'],
    ['a service of no name', () => agent({ id: 'a', services: ['X'] }), 'services.0'],
    ...['edge.test', 'ftp://edge.test', 'http://[', 'http://a:99999', 'http://a?b', `http://a/${'x'.repeat(2_048)}`].map((url) => [`url ${url.slice(0, 20)}`, () => agent({ id: 'a', services: [], url }), 'url'] as Case),
    ['a change of the id', () => to('PATCH', '/v1/agents/a', { services: [], id: 'b' }), 'id'],
    ['no hosts', () => put({}), 'hosts'],
    ['an empty list of hosts', () => put(service([])), 'hosts'],
    ['257 hosts', () => put(service(Array.from({ length: 257 }, (_v, i) => `h${String(i)}.test`))), 'hosts'],
    ['a host that is a number', () => put({ hosts: [1] }), 'hosts.0'],
    ...WRONG_HOSTS.map((name) => [`host ${JSON.stringify(name.slice(0, 20))}`, () => host(name), 'hosts'] as Case),
    ...WRONG_PREFIXES.map((path) => [`prefix ${JSON.stringify(path.slice(0, 20))}`, () => prefix(path), 'prefixes.0'] as Case),
    ['no prefixes', () => put(service(['x.test'], { prefixes: [] })), 'prefixes'],
    ['conceal that is a text', () => put(service(['x.test'], { conceal: 'yes' })), 'conceal'],
    ['a service that names itself', () => put(service(['x.test'], { name: 'y' })), 'name'],
    ['a service name with a capital', () => put(service(['x.test']), 'X'), 'name'],
    ['a service name of 64', () => put(service(['x.test']), 'x'.repeat(64)), 'name'],
    ['a page of 0', () => to('GET', '/v1/agents?limit=0'), 'limit'],
    ['a page of x', () => to('GET', '/v1/services?limit=x'), 'limit'],
    ['two limits', () => to('GET', '/v1/services?limit=1&limit=2'), 'limit'],
    ['an unknown question', () => to('GET', '/v1/services?offset=1'), 'offset'],
    ['JSON that ends early', () => agent('{"id":')],
    ['an empty body', () => agent('')],
    ['a path of no bytes', () => to('GET', '/v1/agents/%')],
  ]
  for (const [what, go, field] of wrong) {
    const told = await go()
    t.match(told, { status: 400, headers: { 'content-type': /^application\/problem\+json/ }, json: { type: 'about:blank', title: 'Bad Request', status: 400, code: 'invalid' } }, what)
    if (field !== undefined) t.ok((told.json.errors as { field: string }[] | undefined)?.some((fault) => fault.field === field), `${what}: ${field}`)
  }
  t.same([(await to('GET', '/v1/agents')).json.items, (await to('GET', '/v1/services')).json.items], [[], []])
  t.same(readdirSync(join(runDir, 'routes')), ['.mark'])
})

t.test('the largest that is right is taken', async (t) => {
  const host = `${'a.'.repeat(122)}ab`
  t.equal(host.length, 246)
  const prefixes = ['/', `/${'a'.repeat(255)}`, '/...', '/.well-known', '/a..b', "/-._~!$&'()*+,;=:@"]
  t.equal((await to('PUT', `/v1/services/${'x'.repeat(63)}`, service([host], { prefixes }))).status, 201)
  t.ok(route(`${host}@prefixes`)?.split('\n').every((line) => line.length < 512))
  t.equal((await to('POST', '/v1/agents', { id: 'a'.repeat(63), services: ['x'.repeat(63)], url: `http://a/${'x'.repeat(2_039)}` })).status, 201)
  t.equal((await to('DELETE', `/v1/agents/${'a'.repeat(63)}`)).status, 204)
  t.equal((await to('DELETE', `/v1/services/${'x'.repeat(63)}`)).status, 204)
})

t.test('a body that is too large, of another type, or to what is not there gets its status', async (t) => {
  t.match(await to('POST', '/v1/agents', undefined, { 'content-type': 'application/json', 'content-length': '1048577' }), { status: 413, json: { status: 413 } })
  t.match(await to('POST', '/v1/agents', 'id=a', { 'content-type': 'application/x-www-form-urlencoded' }), { status: 415 })
  t.match(await to('GET', '/v1/nothing'), { status: 404, json: { code: 'not_found', detail: 'there is no /v1/nothing' } })
  for (const [path, allowed] of [['/v1/health', 'GET'], ['/v1/agents', 'GET, POST'], ['/v1/agents/a', 'GET, PATCH, DELETE'], ['/v1/services', 'GET'], ['/v1/services/a', 'GET, PUT, PATCH, DELETE']] as const) {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].filter((one) => !allowed.split(', ').includes(one))) {
      t.match(await to(method, path, method === 'OPTIONS' ? undefined : {}), { status: 405, headers: { allow: allowed }, json: { code: 'no_such_method' } }, `${method} ${path}`)
    }
  }
})

t.test('lists come in pages, each entry once', async (t) => {
  for (let i = 0; i < 7; i++) await to('PUT', `/v1/services/s${String(i)}`, service([`s${String(i)}.test`]))
  const names: string[] = []
  let pages = 0
  for (let after: string | null = ''; after !== null; pages++) {
    const told = (await to('GET', `/v1/services?limit=3&after=${after}`)).json as { items: { name: string }[]; next: string | null }
    names.push(...told.items.map(({ name }) => name))
    after = told.next
  }
  t.same([names, pages], [['s0', 's1', 's2', 's3', 's4', 's5', 's6'], 3])
  t.match((await to('GET', '/v1/services?limit=7')).json, { next: null })
  t.same((await to('GET', '/v1/services?after=zzz')).json, { items: [], next: null })
  for (let i = 0; i < 7; i++) await to('DELETE', `/v1/services/s${String(i)}`)
})

t.test('a change is true for sessions when it is answered: what an agent may serve, and that it is gone', async (t) => {
  const origin = await startOrigin(t)
  const nginx = await startNginx(t, { runDir })
  await to('PUT', '/v1/services/live', service(['live.test']))
  const { join: word } = (await to('POST', '/v1/agents', { id: 'live', services: ['live'], url: nginx.url })).json
  const agent = await startAgent(t, { join: String(word), target: origin.url, args: ['--channel', 'websocket'] })
  await until('it is served', () => route('live.test') === '1 up h1 live -\n')
  t.match((await to('GET', '/v1/sessions')).json.items, [{ agent: 'live', services: ['live'], attached: true, channels: [{ kind: 'websocket', peer: '127.0.0.1', worker: Number, lanes: [0] }] }])
  const says = async (): Promise<unknown> => ((await to('GET', '/v1/sessions')).json.items as { says: unknown }[])[0]!.says
  await until('its agent says which way it came', async () => (await says()) !== null)
  t.match(await says(), { channels: [{ kind: 'websocket', way: 'direct', lanes: [0] }], exchanges: 0 })
  await to('PATCH', '/v1/agents/live', { services: [] })
  t.equal(route('live.test'), '1 away h1 live -\n')
  await agent.event('nothing_to_serve')
  await to('PATCH', '/v1/agents/live', { services: ['live'] })
  await until('it is served again', () => route('live.test') === '1 up h1 live -\n')
  await to('PUT', '/v1/services/live', service(['moved.test']), ANY)
  t.equal(route('moved.test'), '1 up h1 live -\n')
  t.equal(route('live.test'), undefined)
  await to('DELETE', '/v1/agents/live')
  t.equal(route('moved.test'), '1 away h1 live -\n')
  t.same((await to('GET', '/v1/sessions')).json.items, [])
  t.match(gateway.events.find(({ event }) => event === 'session_ended'), { agent: 'live', code: 'revoked' })
  t.match(await agent.event('refused'), { code: 'revoked' })
  t.equal(await agent.exited, 3)
  await to('DELETE', '/v1/services/live')
  t.equal(route('moved.test'), undefined)
})

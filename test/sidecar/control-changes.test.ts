// Changes over the control server: nobody overwrites what they have not seen, a creation that is asked twice happens once, and who may come in is true at once.
import t from 'tap'
import { decodeJoin } from '../../protocol/join.ts'
import { runAgent, startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { ask, type Told } from './control-socket.ts'

const gateway = await startGateway(t, { settings: { public_url: 'https://edge.test' } })
const to = (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Told> => ask(gateway.runDir, method, path, body, headers)
const ANY = { 'if-match': '*' }

t.test('an edit names what it has seen, and is refused when that has changed', async (t) => {
  const made = await to('PUT', '/v1/services/e', { hosts: ['e.test'] })
  t.match(made, { status: 201, headers: { etag: /^"[\w-]{22}"$/ } })
  const tag = String(made.headers.etag)
  t.equal((await to('GET', '/v1/services/e')).headers.etag, tag)
  t.match(await to('PUT', '/v1/services/e', { hosts: ['f.test'] }), { status: 428, json: { code: 'if_match_needed', title: 'Precondition Required' } })
  t.match(await to('PATCH', '/v1/services/e', { conceal: true }), { status: 428 })
  t.match(await to('PATCH', '/v1/services/e', { conceal: true }, { 'if-match': '"other"' }), { status: 412, json: { code: 'changed_since' } })
  const changed = await to('PATCH', '/v1/services/e', { conceal: true }, { 'if-match': `"other", ${tag}` })
  t.match(changed, { status: 200, json: { conceal: true, hosts: ['e.test'] } })
  t.not(changed.headers.etag, tag)
  t.match(await to('PATCH', '/v1/services/e', { conceal: false }, { 'if-match': tag }), { status: 412 }, 'two who saw the same: the second is told')
  t.match(await to('DELETE', '/v1/services/e', undefined, { 'if-match': tag }), { status: 412 })
  t.match(await to('PUT', '/v1/services/none', { hosts: ['n.test'] }, ANY), { status: 412, json: { detail: 'it is not there' } })
  t.match(await to('PUT', '/v1/settings', {}), { status: 428 })
  t.match(await to('DELETE', '/v1/services/e', undefined, { 'if-match': String(changed.headers.etag) }), { status: 204 })
})

t.test('a creation that is asked twice with the same key happens once', async (t) => {
  const key = { 'idempotency-key': 'k-1' }
  const first = await to('POST', '/v1/agents', { id: 'once' }, key)
  t.equal(first.status, 201)
  const again = await to('POST', '/v1/agents', { id: 'once' }, key)
  t.match(again, { status: 201, json: first.json }, 'the same answer, join string and all')
  t.match(await to('POST', '/v1/agents', { id: 'other' }, key), { status: 422, json: { code: 'key_reused' } })
  t.match(await to('POST', '/v1/agents', { id: 'once' }), { status: 409, json: { code: 'exists' } }, 'without the key it is a second one')
  const rotated = await to('POST', '/v1/agents/once/rotate', {}, key)
  t.match(await to('POST', '/v1/agents/once/rotate', {}, key), { status: 200, json: { join: String(rotated.json.join) } }, 'a secret is not made twice either')
  const both = await Promise.all([to('POST', '/v1/tokens', { name: 'twin', scopes: ['read'] }, key), to('POST', '/v1/tokens', { name: 'twin', scopes: ['read'] }, key)])
  t.equal(new Set(both.map(({ status, json }) => (status === 201 ? json.secret : 'under way'))).size, both.some(({ status }) => status === 409) ? 2 : 1)
  t.equal(((await to('GET', '/v1/tokens')).json.items as object[]).length, 1)
  await gateway.kill()
  await gateway.restart()
  t.match(await to('POST', '/v1/agents', { id: 'once' }, key), { status: 409, json: { code: 'made_already', detail: /^it was made as \/v1\/agents/ } }, 'a secret that was shown is kept nowhere')
  for (const wrong of ['', 'a b', 'x'.repeat(256)]) t.match(await to('POST', '/v1/agents', { id: 'w' }, { 'idempotency-key': wrong }), { status: 400 })
})

t.test('who is disabled, revoked, expired or has a new secret is out at once, and in again when that is over', async (t) => {
  const origin = await startOrigin(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  await to('PUT', '/v1/services/s', { hosts: ['s.test'] })
  const made = (await to('POST', '/v1/agents', { id: 'in', services: ['s'], url: nginx.url })).json
  const sessions = async (): Promise<number> => ((await to('GET', '/v1/sessions?agent=in')).json.items as object[]).length
  const come = async (join: unknown) => {
    const agent = await startAgent(t, { join: String(join), target: origin.url })
    await until('it is in', async () => (await sessions()) === 1)
    return agent
  }
  const change = (body: object) => to('PATCH', '/v1/agents/in', body, ANY)
  const out = async (agent: Awaited<ReturnType<typeof come>>, state: string) => {
    t.equal(await sessions(), 0, `${state}: its session is over when the change is answered`)
    t.match(await to('GET', '/v1/agents/in'), { json: { state } })
    t.equal(await agent.exited, 3)
  }
  let agent = await come(made.join)
  t.match(await change({ disabled: true }), { status: 200, json: { state: 'disabled' } })
  await out(agent, 'disabled')
  await change({ disabled: false })
  agent = await come(made.join)
  t.match(await to('POST', '/v1/agents/in/revoke', {}), { status: 200, json: { state: 'revoked' } })
  await out(agent, 'revoked')
  const rotated = (await to('POST', '/v1/agents/in/rotate', { url: nginx.url })).json
  t.match(rotated, { state: 'active', rotated_at: /Z$/ })
  t.not(decodeJoin(String(rotated.join)).secret, decodeJoin(String(made.join)).secret)
  const old = await runAgent(t, ['http', String(origin.port)], { join: String(made.join), ready: false })
  t.equal(await old.exited, 3, 'the secret that was revoked stays worthless')
  agent = await come(rotated.join)
  const next = (await to('POST', '/v1/agents/in/rotate', { url: nginx.url })).json
  await out(agent, 'active')
  agent = await come(next.join)
  t.match(await change({ expires_at: '2000-01-01T00:00:00Z' }), { json: { state: 'expired' } })
  await out(agent, 'expired')
  await change({ expires_at: '2099-01-01T00:00:00Z' })
  agent = await come(next.join)
  await change({ expires_at: new Date(performance.timeOrigin + performance.now() + 3_000).toISOString() })
  t.equal(await sessions(), 1, 'it is in until its time is over')
  await until('its time is over', async () => (await sessions()) === 0)
  await out(agent, 'expired')
  t.match((await to('GET', '/v1/history?subject=agents/in&kind=agent_expired')).json, { items: [{ who: 'gateway' }] })
})

t.test('an agent serves what asks for its labels, as long as both say so', async (t) => {
  const origin = await startOrigin(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  await to('PUT', '/v1/services/l', { hosts: ['l.test'], labels: ['site=berlin', 'gpu'] })
  const { join } = (await to('POST', '/v1/agents', { id: 'label', labels: ['gpu'], url: nginx.url })).json
  const state = async (): Promise<unknown> => ((await to('GET', '/v1/routes?limit=1000')).json.items as { host: string; state: string }[]).find(({ host }) => host === 'l.test')?.state
  await runAgent(t, ['http', String(origin.port)], { join: String(join), ready: false })
  await until('it is in', async () => ((await to('GET', '/v1/sessions?agent=label')).json.items as object[]).length === 1)
  t.equal(await state(), 'away', 'one label of two is not enough')
  await to('PATCH', '/v1/agents/label', { labels: ['gpu', 'site=berlin'] }, ANY)
  await until('both labels: it serves', async () => (await state()) === 'up')
  await to('PATCH', '/v1/services/l', { labels: ['site=paris'] }, ANY)
  t.equal(await state(), 'away')
  await to('PATCH', '/v1/services/l', { labels: ['gpu'] }, ANY)
  await until('it serves again', async () => (await state()) === 'up')
  t.match(await to('DELETE', '/v1/services/l'), { status: 204 }, 'a label is no claim on a service')
})

t.test('settings that do not agree are refused with the field', async (t) => {
  const put = (body: object) => to('PUT', '/v1/settings', body, ANY)
  t.match(await put({ heartbeat_ms: 5_000, dead_after_ms: 5_000 }), { status: 400, json: { errors: [{ field: 'dead_after_ms' }] } })
  t.match(await put({ connections: 0 }), { status: 400, json: { errors: [{ field: 'connections' }] } })
  t.match(await put({ conections: 1 }), { status: 400, json: { errors: [{ field: 'conections' }] } })
  t.match(await put({ connections: 2 }), { status: 200, json: { connections: 2 } })
  t.match(await to('POST', '/v1/agents', { id: 'set', settings: { heartbeat_ms: 9_000, dead_after_ms: 300 } }), { status: 400, json: { errors: [{ field: 'settings.dead_after_ms' }] } })
  t.match(await put({}), { status: 200 })
})

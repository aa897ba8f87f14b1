// Credentials for visitors: made by the gateway, answered once, kept as hashes; each wrong request is told what is wrong with it.
import { createHash } from 'node:crypto'
import t from 'tap'
import { startGateway } from '../harness/gateway.ts'
import { ask } from './control-socket.ts'

const { runDir, logs } = await startGateway(t)
const to = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => ask(runDir, method, path, body, headers)
const make = (body: unknown, headers: Record<string, string> = {}) => to('POST', '/v1/services/demo/credentials', body, headers)
const policy = async (): Promise<object> => (await to('GET', '/v1/services/demo')).json.policy as object
const hash = (secret: unknown): string => createHash('sha256').update(String(secret)).digest('hex')

await to('PUT', '/v1/services/demo', { hosts: ['demo.test'] })
t.beforeEach(() => to('PATCH', '/v1/services/demo', { policy: { methods: ['GET'] } }, { 'if-match': '*' }))

t.test('a token, then another: both are right, and the rest of the policy stays', async (t) => {
  const made = await make({})
  t.match(made, { status: 201, headers: { 'cache-control': 'no-store' }, json: { secret: /^[A-Za-z0-9_-]{43}$/ } })
  t.equal(made.json.sha256, hash(made.json.secret))
  const second = await make({})
  t.same(await policy(), { methods: ['GET'], token: { sha256: [made.json.sha256, second.json.sha256] } })
  const pair = await make({ user: 'ann@example.org' })
  t.match(pair.json.secret, /^ann@example\.org:[A-Za-z0-9_-]{43}$/)
  t.match(await policy(), { basic: { sha256: [hash(pair.json.secret)] } })
  const history = (await to('GET', '/v1/history?kind=credential_created')).text
  for (const { json } of [made, second, pair]) {
    t.match(history, json.sha256)
    t.notMatch(history + logs(), String(json.secret))
  }
})

t.test('one key makes one credential', async (t) => {
  const key = { 'idempotency-key': 'once' }
  const made = await make({}, key)
  t.same((await make({}, key)).json, made.json)
  t.same(await policy(), { methods: ['GET'], token: { sha256: [made.json.sha256] } })
  t.equal((await make({ user: 'x' }, key)).status, 422)
})

t.test('what is wrong is said', async (t) => {
  t.equal((await make({ field: 'X-Key' })).status, 201)
  t.match(await make({}), { status: 409, json: { code: 'other_field', detail: /X-Key/ } })
  t.match(await make({ field: 'Y' }), { status: 409, json: { code: 'other_field' } })
  t.equal((await make({ field: 'x-key' })).status, 201)
  const before = await policy()
  const wrong: readonly unknown[] = [{ user: 'a', field: 'X' }, { user: '' }, { user: 'a:b' }, { user: 'a'.repeat(65) }, { user: 1 }, { field: 'X Y' }, { password: 'chosen' }, [], 'x', { secret: 'chosen' }]
  for (const body of wrong) t.equal((await make(body)).status, 400, JSON.stringify(body))
  t.equal((await to('POST', '/v1/services/none/credentials', {})).status, 404)
  t.match(await to('GET', '/v1/services/demo/credentials'), { status: 405, headers: { allow: 'POST' } })
  t.same(await policy(), before)
})

t.test('a field with a meaning of its own holds no token', async (t) => {
  for (const field of ['Authorization', 'Cookie', 'Host', 'Postern-Key']) t.match(await make({ field }), { status: 400, json: { errors: [{ field: 'field' }] } }, field)
  t.same(await policy(), { methods: ['GET'] })
})

t.test('there are as many as a policy holds', async (t) => {
  await to('PATCH', '/v1/services/demo', { policy: { token: { sha256: Array.from({ length: 32 }, (_, at) => String(at).padStart(64, '0')) } } }, { 'if-match': '*' })
  t.match(await make({}), { status: 409, json: { code: 'too_many' } })
})

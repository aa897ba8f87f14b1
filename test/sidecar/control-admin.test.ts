// The control server from outside: on its own hostnames alone, by nginx, to whoever has a token that is good for it; wrong ones are counted.
import { request } from 'node:http'
import t from 'tap'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { commandsOf } from './commands.ts'
import { ask } from './control-socket.ts'

const CONTROL = 'admin.edge.test'
const gateway = await startGateway(t, { settings: { control_hosts: `${CONTROL},second.test` } })
const nginx = await startNginx(t, { runDir: gateway.runDir, server: 'include EDGE/postern-control.conf;' })
const inside = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => ask(gateway.runDir, method, path, body, headers)

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

function outside(method: string, path: string, token?: string, body?: unknown, more: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const payload = body === undefined ? undefined : JSON.stringify(body)
  const headers = {
    host: CONTROL, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }), ...more,
  }
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port: nginx.port, method, path, headers, agent: false }, (response) => {
      let text = ''
      response.on('data', (part: Buffer) => (text += part.toString()))
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, text }))
    })
    asked.on('error', reject)
    asked.end(payload)
  })
}

const admin = String(gateway.events.find(({ event }) => event === 'admin_token')?.token)
const made = async (name: string, scopes: string[], more: object = {}): Promise<string> => String((await inside('POST', '/v1/tokens', { name, scopes, ...more })).json.secret)

t.test('the first start makes a token and tells it once; the store does not hold it', async (t) => {
  t.match(admin, /^pt1_[\w-]{43}$/)
  t.match(await outside('GET', '/v1/ready', admin), { status: 200 })
  t.match((await inside('GET', '/v1/tokens')).json.items, [{ name: 'admin', scopes: ['all'], expires_at: null }])
  t.notOk(JSON.stringify((await inside('GET', '/v1/tokens')).json).includes(admin))
  await gateway.stop()
  await gateway.restart()
  t.equal(gateway.events.filter(({ event }) => event === 'admin_token').length, 1)
  t.match(await outside('GET', '/v1/ready', admin), { status: 200 }, 'and it is still good')
})

t.test('without a token there is the document, and nothing else', async (t) => {
  t.match(await outside('GET', '/v1/openapi.json'), { status: 200 })
  t.match(await outside('GET', '/v1/docs'), { status: 200, headers: { 'content-security-policy': /default-src 'none'/ } })
  for (const [method, path] of [['GET', '/v1/health'], ['GET', '/v1/agents'], ['POST', '/v1/agents'], ['DELETE', '/v1/services/a'], ['GET', '/v1/nothing'], ['PUT', '/v1/agents'], ['GET', '/']] as const) {
    t.match(await outside(method, path), { status: 401, headers: { 'www-authenticate': 'Bearer realm="postern"', 'content-type': 'application/problem+json' } }, `${method} ${path}`)
  }
  t.match(await outside('GET', '/v1/agents', undefined, undefined, { host: 'other.test', authorization: `Bearer ${admin}` }), { status: 421 }, 'a token is good on a control host alone')
  t.match(await outside('GET', '/v1/agents', admin, undefined, { host: 'SECOND.test:8443' }), { status: 200 })
})

t.test('a token may what its scopes say', async (t) => {
  const tokens = { read: await made('r', ['read']), agents: await made('a', ['agents']), services: await made('s', ['services']), all: admin }
  const cases: [method: string, path: string, body: object | undefined, who: (keyof typeof tokens)[]][] = [
    ['GET', '/v1/agents', undefined, ['read', 'agents', 'services', 'all']],
    ['GET', '/v1/history', undefined, ['read', 'agents', 'services', 'all']],
    ['POST', '/v1/agents', { id: 'x', url: 'http://e.test' }, ['agents', 'all']],
    ['POST', '/v1/agents/x/revoke', {}, ['agents', 'all']],
    ['PUT', '/v1/services/x', { hosts: ['x.test'] }, ['services', 'all']],
    ['DELETE', `/v1/sessions/${'0'.repeat(32)}`, undefined, ['agents', 'all']],
    ['PUT', '/v1/settings', {}, ['all']],
    ['GET', '/v1/tokens', undefined, ['all']],
    ['POST', '/v1/tokens', { name: 'more', scopes: ['all'] }, ['all']],
    ['GET', '/v1/backup', undefined, ['all']],
  ]
  for (const [method, path, body, who] of cases) {
    for (const name of Object.keys(tokens) as (keyof typeof tokens)[]) {
      const { status } = await outside(method, path, tokens[name], body)
      if (who.includes(name)) t.ok(status !== 401 && status !== 403, `${method} ${path}: ${name} may (${String(status)})`)
      else t.equal(status, 403, `${method} ${path}: ${name} may not`)
    }
  }
  t.match((await inside('GET', '/v1/history?kind=agent_revoked')).json.items, [{ who: 'token admin' }, { who: 'token a' }], 'the history knows which')
})

t.test('a token that expired, or was removed, is worth nothing at once', async (t) => {
  const old = await made('old', ['all'], { expires_at: '2000-01-01T00:00:00Z' })
  t.equal((await outside('GET', '/v1/ready', old)).status, 401)
  const gone = await inside('POST', '/v1/tokens', { name: 'gone', scopes: ['read'] })
  t.equal((await outside('GET', '/v1/ready', String(gone.json.secret))).status, 200)
  t.equal((await inside('DELETE', `/v1/tokens/${String(gone.json.id)}`)).status, 204)
  t.equal((await outside('GET', '/v1/ready', String(gone.json.secret))).status, 401)
})

t.test('whoever shows wrong tokens is put off, whatever it says of its address; the right one is taken all the same', async (t) => {
  const statuses: number[] = []
  for (let i = 0; i < 14; i++) statuses.push((await outside('GET', '/v1/ready', `pt1_wrong${String(i)}`, undefined, { 'x-real-ip': `10.0.0.${String(i)}` })).status)
  t.equal(statuses[0], 401)
  t.equal(statuses.at(-1), 429)
  t.match(await outside('GET', '/v1/ready', 'pt1_wrong'), { status: 429, headers: { 'retry-after': /^\d+$/ } })
  t.equal((await outside('GET', '/v1/ready', admin)).status, 200)
  t.match((await inside('GET', '/v1/history?kind=token_refused')).json.items, [{ who: '127.0.0.1' }], 'it is in the history once')
})

t.test('no service is published on a control host, nor the other way round', async (t) => {
  for (const host of [CONTROL, '+.edge.test', 'second.test']) t.match(await inside('PUT', '/v1/services/bad', { hosts: [host] }), { status: 409, json: { code: 'taken' } }, host)
  t.match(await inside('PUT', '/v1/services/good', { hosts: ['edge.test', 'x.admin.edge.test'] }), { status: 201 })
  await gateway.stop()
  const start = await commandsOf(gateway)('start --control-hosts edge.test')
  t.equal(start.code, 1)
  t.match(JSON.parse(start.stdout), { event: 'not_started', detail: /control_hosts: service good is published on one of them/ })
})

// Whether an origin is well, asked of real ones: what counts as well, how many answers a change needs, and which check is whose.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net, { type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { processEnvironment } from '../../agent/environment.ts'
import { ask, Health } from '../../agent/health.ts'
import { Offering } from '../../agent/offering.ts'
import type { OriginOptions } from '../../agent/origin.ts'
import { parseTarget, type Target } from '../../agent/target.ts'
import type { HealthCheck, ServedService } from '../../protocol/control.ts'
import { until } from '../harness/until.ts'

const { clock } = processEnvironment()
const HTTP: HealthCheck = { kind: 'http', path: '/health', timeout_ms: 2_000 }

async function listening(t: Pick<Test, 'teardown'>, server: net.Server, at: number | string = 0): Promise<string> {
  const sockets = new Set<net.Socket>()
  server.on('connection', (socket: net.Socket) => sockets.add(socket.on('error', () => undefined)))
  await new Promise<void>((resolve) => server.listen(at, resolve))
  t.teardown(() => new Promise((resolve) => {
    for (const socket of sockets) socket.destroy()
    server.close(resolve)
  }))
  return typeof at === 'string' ? `unix:${at}` : String((server.address() as AddressInfo).port)
}

const target = (typed: string): Target => parseTarget(typed, process.platform)
const asked = (typed: string, check: HealthCheck, more: { verifyTls?: boolean; host?: string } = {}): Promise<string | undefined> => {
  return new Promise((resolve) => void ask({ target: target(typed), verifyTls: more.verifyTls ?? true, host: more.host ?? 'local' }, check, clock, resolve))
}

t.test('an origin is well if it answers 200 to 399, by a port or a socket, with TLS or without', async (t) => {
  const seen: string[] = []
  const answer = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    seen.push(`${request.method!} ${request.url!} ${request.headers.host!}`)
    response.statusCode = Number(request.url!.slice(1))
    response.end('x'.repeat(10_000))
  }
  const port = await listening(t, http.createServer(answer))
  for (const status of [200, 204, 302, 399]) t.equal(await asked(port, { ...HTTP, path: `/${String(status)}` }), undefined, String(status))
  for (const status of [400, 404, 500, 503]) t.equal(await asked(port, { ...HTTP, path: `/${String(status)}` }), `it answered ${String(status)}`)
  t.equal(seen[0], 'GET /200 local')
  const dir = mkdtempSync(join(tmpdir(), 'postern-health-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  t.equal(await asked(await listening(t, http.createServer(answer), join(dir, 's')), { ...HTTP, path: '/200' }), undefined)
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', join(dir, 'key'), '-out', join(dir, 'cert'), '-days', '2', '-subj', '/CN=localhost'], { stdio: 'ignore' })
  const secure = await listening(t, https.createServer({ key: readFileSync(join(dir, 'key')), cert: readFileSync(join(dir, 'cert')) }, answer))
  t.equal(await asked(`https://localhost:${secure}`, { ...HTTP, path: '/200' }, { verifyTls: false }), undefined)
  t.match(await asked(`https://localhost:${secure}`, { ...HTTP, path: '/200' }), /self-signed/)
})

t.test('what does not answer in time, or not in HTTP, is not well', async (t) => {
  const held = (said: string): net.Server => net.createServer((socket) => void socket.write(said))
  const silent = await listening(t, held(''))
  t.equal(await asked(silent, { ...HTTP, timeout_ms: 50 }), 'no answer within 50 ms')
  t.equal(await asked(silent, { kind: 'tcp' }), undefined, 'that it takes connections is all that tcp asks')
  t.equal(await asked(await listening(t, held('SSH-2.0-x\r\n')), HTTP), 'the answer is no HTTP')
  t.equal(await asked(await listening(t, held('x'.repeat(300))), HTTP), 'the answer is no HTTP')
  t.match(await asked(await listening(t, net.createServer((socket) => void socket.end())), HTTP), /closed|ECONNRESET/)
  const gone = net.createServer()
  const port = await new Promise<string>((resolve) => gone.listen(0, () => resolve(String((gone.address() as AddressInfo).port))))
  await new Promise((resolve) => gone.close(resolve))
  for (const check of [HTTP, { kind: 'tcp' } as const]) t.match(await asked(port, check), /ECONNREFUSED/)
})

t.test('the first answer decides at once, a change needs several in a row', async (t) => {
  const answers: number[] = []
  let next: readonly number[] = []
  const port = await listening(t, http.createServer((_request, response) => {
    const [status = answers.at(-1)!, ...rest] = next
    next = rest
    answers.push(status)
    response.writeHead(status).end()
  }))
  const changes: (string | undefined)[] = []
  const begin = (...statuses: number[]): Health => {
    next = statuses
    answers.length = 0
    changes.length = 0
    const check = { ...HTTP, interval_ms: 100, unhealthy_after: 3, healthy_after: 2 }
    const health: Health = new Health({ target: target(port), verifyTls: true, host: 'local' }, check, clock, () => changes.push(health.reason))
    t.teardown(() => health.stop())
    return health
  }
  const ill = begin(503)
  await until('the first answer counts', () => changes.length === 1)
  t.equal(ill.reason, 'it answered 503')
  t.equal(answers.length, 1)
  next = [200, 503, 200, 200]
  await until('two in a row', () => changes.length === 2)
  t.equal(ill.reason, undefined)
  t.same(answers.slice(-4), [200, 503, 200, 200])
  ill.stop()
  const well = begin(200, 503, 503, 200, 503, 503, 503)
  await until('three in a row', () => changes.length === 1)
  t.equal(well.reason, 'it answered 503')
  t.equal(answers.length, 7)
  well.stop()
})

/** An agent's offering and what it says of health. */
function offer(t: Pick<Test, 'teardown'>, services: ConstructorParameters<typeof Offering>[0]) {
  const offering = new Offering(services, clock)
  let told = 0
  offering.onHealth = () => void told++
  t.teardown(() => offering.close())
  return { offering, told: () => told, unwell: () => offering.unwell.map(({ name }) => name) }
}

const service = (name: string, more: Partial<ServedService> = {}): ServedService => ({ name, hosts: [], ...more })

t.test('services of one origin share a check, and the file’s check counts before the gateway’s', async (t) => {
  let asks = 0
  const ill = await listening(t, http.createServer((_request, response) => {
    asks++
    response.writeHead(500).end()
  }))
  const health: HealthCheck = { kind: 'http', interval_ms: 3_600_000 }
  const one: OriginOptions = { target: target(ill) }
  const { offering, unwell, told } = offer(t, { each: new Map<string, OriginOptions>([['a', one], ['b', one], ['own', { ...one, health: { kind: 'tcp' } }], ['never', { ...one, health: 'none' }], ['unasked', one]]) })
  offering.allow([service('a', { health }), service('b', { health }), service('own', { health }), service('never', { health }), service('unasked')])
  await until('it is known', () => told() > 0)
  t.same(unwell(), ['a', 'b'])
  t.equal(asks, 1)
  offering.allow([service('a', { health, hosts: ['another.example'] })])
  t.same(unwell(), ['a'], 'what is known stays known')
  t.equal(asks, 1)
  offering.allow([service('a')])
  t.same(unwell(), [], 'nobody asks any more')
})

t.test('a suggested target is taken only where it is permitted, and what is not taken is told with its reason', (t) => {
  const { offering } = offer(t, { each: new Map([['own', { target: target('3000') }]]), permitted: [{ target: target('http://app:9000') }] })
  offering.allow([
    service('own', { origin: 'http://elsewhere:1' }),
    service('suggested', { origin: 'app:9000' }),
    service('known', { origin: '3000' }),
    service('denied', { origin: 'http://169.254.169.254' }),
    service('strange', { origin: 'file:///etc/passwd' }),
    service('bare'),
  ])
  t.same(offering.served.map(({ name, target: to }) => `${name} ${to}`), ['own http://localhost:3000', 'suggested http://app:9000', 'known http://localhost:3000'])
  t.same(offering.refused, [
    { what: 'denied', reason: 'it does not permit the target http://169.254.169.254' },
    { what: 'strange', reason: 'it does not permit the target file:///etc/passwd' },
    { what: 'bare', reason: 'it has no target for it' },
  ])
  const typed = offer(t, { every: { target: target('3000') }, names: ['a'] }).offering
  typed.allow([service('a', { origin: 'app:9000' }), service('b', { origin: '3000' })])
  t.same(typed.served.map(({ name, target: to }) => `${name} ${to}`), ['a http://localhost:3000'])
  t.same(typed.refused, [{ what: 'b', reason: 'it was started for other services' }])
  t.end()
})

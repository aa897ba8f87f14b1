// Parts that die, come back, reload or fill up: a clear error or nothing noticed, never a hang or another visitor's bytes.
import t from 'tap'
import { until } from '../harness/until.ts'
import { startAgent } from '../harness/agent.ts'
import { begin, HOST, read, visit } from './visitor.ts'
import { startWorld } from './world.ts'

const REFUSED_SOCKET = /connect\(\) to unix:.* failed|upstream prematurely closed|recv\(\) failed/

t.test('a killed agent: what is under way breaks, then 503 with Retry-After, then a new agent serves', async (t) => {
  const world = await startWorld(t, {
    settings: { grace_ms: 300, heartbeat_ms: 200, dead_after_ms: 1_000 },
    handler: (request, response) => {
      request.resume()
      if (request.url !== '/half') return void response.end('ok')
      response.writeHead(200)
      response.write('half')
    },
    expected: [REFUSED_SOCKET],
  })
  const { request, answer } = begin({ port: world.port, path: '/half' })
  request.on('error', () => undefined)
  request.end()
  const response = await answer
  const broken = read(response)
  await world.agent.stop()
  t.notOk((await broken).complete, 'the visitor sees that it is not all')
  const away = await until('the service is away', async () => {
    const one = await visit({ port: world.port, headers: ['Accept', 'application/json'] })
    return one.status === 503 ? one : undefined
  })
  t.equal((JSON.parse(away.body.toString()) as { code: string }).code, 'service_away')
  t.ok(Number(away.headers['retry-after']) > 0)
  await startAgent(t, { join: world.join, target: world.origin.url })
  await until('it is served again', async () => (await visit({ port: world.port })).status === 200)
})

t.test('a killed gateway: 502 with a code; it comes back and agents and visitors with it', async (t) => {
  const world = await startWorld(t, { expected: [REFUSED_SOCKET] })
  t.equal((await visit({ port: world.port })).status, 200)
  await world.gateway.kill()
  const answer = await visit({ port: world.port, headers: ['Accept', 'application/json'] })
  t.equal(answer.status, 502)
  t.equal((JSON.parse(answer.body.toString()) as { code: string }).code, 'gateway_away')
  await world.gateway.restart()
  await until('it is served again', async () => (await visit({ port: world.port })).status === 200)
})

t.test('an agent that drains ends what it has and leaves with exit code 0; the service is away at once', async (t) => {
  let release: (() => void) | undefined
  const world = await startWorld(t, {
    handler: (request, response) => {
      request.resume()
      if (request.url !== '/slow') return void response.end('ok')
      response.writeHead(200)
      response.write('first ')
      release = () => response.end('last')
    },
  })
  const { request, answer } = begin({ port: world.port, path: '/slow' })
  request.end()
  const whole = read(await answer)
  world.agent.signal('SIGTERM')
  await until('new requests are refused', async () => (await visit({ port: world.port })).status === 503)
  release!()
  t.equal((await whole).body.toString(), 'first last')
  t.equal(await world.agent.exited, 0)
})

t.test('nginx reloads under load and no request fails', async (t) => {
  const world = await startWorld(t)
  const failures: string[] = []
  let stop = false
  let served = 0
  const visitor = async (): Promise<void> => {
    while (!stop) {
      const answer = await visit({ port: world.port, path: `/${String(served++)}` }).catch((error: unknown) => String(error))
      if (typeof answer === 'string' || answer.status !== 200) failures.push(typeof answer === 'string' ? answer : `${String(answer.status)} ${answer.body.toString()}`)
    }
  }
  const visitors = Array.from({ length: 8 }, visitor)
  for (let i = 0; i < 5; i++) {
    await world.nginx.reload()
    const before = served
    await until('requests go on', () => served > before + 50)
  }
  stop = true
  await Promise.all(visitors)
  t.same(failures, [])
})

t.test('unknown and malformed hosts, and heads that are too large, get their own answers and reach no agent', async (t) => {
  const world = await startWorld(t)
  for (const [host, status] of [['other.localhost', 404], ['..', 400], ['a b', 400], ['demo.localhost@x', 400], ['demo.localhost:x', 400], ['x'.repeat(300), 400]] as const) {
    t.equal((await visit({ port: world.port, host })).status, status, host)
  }
  t.equal((await visit({ port: world.port, headers: ['X-Big', 'x'.repeat(300_000)] })).status, 431)
  t.equal((await visit({ port: world.port, headers: Array.from({ length: 240 }, (_v, i) => (i % 2 === 0 ? `X-${String(i)}` : 'v')) })).status, 431, '120 fields')
  t.equal(world.origin.requests(), 0)
  t.equal((await visit({ port: world.port, host: HOST })).status, 200)
})

// The command `postern` as its users meet it: what it takes, what it says, how it ends.
import { chmodSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { decodeJoin, encodeJoin } from '../../protocol/join.ts'
import { runAgent, startAgent } from '../harness/agent.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { CERTIFICATE, KEY } from './certificate.ts'
import { startGate } from './gate.ts'

const JOIN = encodeJoin({ url: 'http://127.0.0.1:1', id: 'a', secret: 'a-secret-to-be-kept', key: 'k' })

t.test('wrong usage ends with 2 and says what is wrong', async (t) => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /what is to be done/],
    [['serve'], /no command/],
    [['http'], /needs a target/],
    [['http', '3000', '4000'], /one target/],
    [['http', 'host'], /no port/],
    [['http', '3000', '--nonsense'], /nonsense/],
    [['http', '3000', '--host-header', 'a b'], /no host/],
    [['http', '3000', '--join', JOIN, '--policy', 'perhaps'], /always or never/],
    [['http', '3000', '--join', 'x'], /begins with pj1_/],
    [['http', '3000', '--join-file', '/nowhere/join'], /can not be read/],
    [['http', '3000'], /no join string/],
    [['start'], /which file/],
    [['check', '-c', '/nowhere/postern.yaml'], /ENOENT/],
    [['http', '3000', '--join', JOIN, '--channel', 'pigeon'], /no channel; there are auto, websocket/],
    [['http', '3000', '--join', JOIN, '--gateway', 'gw.example'], /a gateway’s URL is/],
    [['http', '3000', '--join', JOIN, '--connections', '0'], /from 1 to 16/],
    [['status', 'more'], /more/],
  ]
  await Promise.all(
    cases.map(async ([args, says]) => {
      const agent = await runAgent(t, args, { ready: false })
      t.equal(await agent.exited, 2, args.join(' '))
      t.match(agent.logs(), says)
    }),
  )
})

t.test('help and version are clean', async (t) => {
  const help = await runAgent(t, ['--help'], { ready: false })
  t.equal(await help.exited, 0)
  t.match(help.logs(), /usage:/)
  const version = await runAgent(t, ['--version'], { ready: false })
  t.equal(await version.exited, 0)
  t.match(version.logs(), /^\d+\.\d+\.\d+\n$/)
})

t.test('postern check says whether a file is right', async (t) => {
  const file = join(t.testdir(), 'postern.yaml')
  writeFileSync(file, 'services:\n  demo: 3000\n')
  const right = await runAgent(t, ['check', '-c', file], { ready: false })
  t.equal(await right.exited, 0)
  t.match(right.logs(), /is right/)
  writeFileSync(file, 'services:\n  demo: 3000\ncolour: red\n')
  const wrong = await runAgent(t, ['check', '-c', file], { ready: false })
  t.equal(await wrong.exited, 2)
  t.match(wrong.logs(), /`colour` is no setting/)
  writeFileSync(file, 'services:\n  demo: 3000\nchannel: pigeon\n')
  const pigeon = await runAgent(t, ['check', '-c', file], { ready: false })
  t.equal(await pigeon.exited, 2)
  t.match(pigeon.logs(), /no channel/)
})

t.test('the way out: flags before environment before file', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const file = join(t.testdir(), 'postern.yaml')
  // No word of the file leads anywhere; nor does one of the environment's, where there is a flag.
  writeFileSync(file, `join: ${JOIN}\ngateway: tcp://127.0.0.1:1\nchannel: tcp\nconnections: 16\nservices:\n  demo: ${String(origin.port)}\n`)
  const { url } = decodeJoin(gate.join)
  const env = { POSTERN_GATEWAY: 'http://127.0.0.1:1', POSTERN_CHANNEL: 'websocket', POSTERN_CONNECTIONS: '2' }
  const agent = await runAgent(t, ['start', '-c', file, '--gateway', url], { join: encodeJoin({ ...decodeJoin(gate.join), url: 'http://127.0.0.1:1' }), env })
  t.match(await agent.event('serving'), { gateway: url, channel: 'websocket' })
  const lost = await runAgent(t, ['start', '-c', file, '--once'], { join: gate.join, env, ready: false })
  t.equal(await lost.exited, 4, 'the environment goes before the join string')
})

t.test('dead ends are named by their way and reason, and end with 4 when it is to try once', async (t) => {
  const tlsServer = https.createServer({ cert: CERTIFICATE, key: KEY })
  t.teardown(() => tlsServer.close())
  await new Promise<void>((resolve) => tlsServer.listen(0, '127.0.0.1', resolve))
  const web = await startOrigin(t)
  const tls = `https://localhost:${String((tlsServer.address() as AddressInfo).port)}`
  for (const [args, reason, says] of [
    [['--gateway', tls], 'tls', /certificate/],
    [['--gateway', tls.replace('https', 'tls')], 'tls', /certificate/],
    [['--gateway', web.url], 'http', /websocket.*: .*no gateway.*http2: .*no HTTP\/2/],
    [['--gateway', web.url, '--channel', 'http2'], 'http', /^what answers there speaks no HTTP\/2$/],
    [['--pipe', 'echo nobody there >&2; exit 3'], 'silent', /nobody there/],
    [['--proxy', 'http://user:secret@127.0.0.1:1'], 'proxy', /the proxy 127\.0\.0\.1:1 can not be reached/],
  ] as const) {
    const agent = await runAgent(t, ['http', '1', '--once', ...args], { join: JOIN, ready: false })
    t.equal(await agent.exited, 4, args.join(' '))
    t.match(await agent.event('failed'), { reason, detail: says }, args.join(' '))
    t.notMatch(agent.logs(), /a-secret-to-be-kept|user:secret/)
  }
})

t.test('it serves, tells so in JSON lines without the secret, drains at the first signal and ends clean', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const agent = await startAgent(t, { join: gate.join, target: origin.port })
  t.match(await agent.event('serving'), { services: [{ name: 'demo', hosts: ['demo.example'] }] })
  t.equal((await gate.answered(gate.visit())).text, 'GET /\n')
  agent.signal('SIGTERM')
  t.equal(await agent.exited, 0)
  t.same(agent.events.filter(({ event }) => event === 'text'), [], 'every line is JSON')
  t.notMatch(agent.logs(), decodeJoin(gate.join).secret)
})

t.test('the second signal ends it at once', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t, (_request, response) => response.write('never done'))
  const agent = await startAgent(t, { join: gate.join, target: origin.port })
  const visit = gate.visit()
  await until('the answer has begun', () => visit.text !== '')
  agent.signal('SIGINT')
  await agent.event('draining')
  agent.signal('SIGINT')
  t.equal(await agent.exited, 1)
})

t.test('a refused agent ends with 3', async (t) => {
  const gate = await startGate(t)
  const agent = await runAgent(t, ['http', '3000'], { join: encodeJoin({ ...decodeJoin(gate.join), secret: 'wrong' }), ready: false })
  t.equal(await agent.exited, 3)
  t.match(await agent.event('refused'), { code: 'unauthenticated' })
})

t.test('an unreachable gateway ends it with 4 if it is to try once only', async (t) => {
  const agent = await runAgent(t, ['http', '3000', '--once'], { join: JOIN, ready: false })
  t.equal(await agent.exited, 4)
  t.match(await agent.event('failed'), { reason: 'unreachable' })
})

t.test('without that it keeps trying, and says so', async (t) => {
  const agent = await runAgent(t, ['http', '3000'], { join: JOIN, ready: false })
  await until('a second failure', () => agent.events.filter(({ event }) => event === 'failed').length >= 2)
  agent.signal('SIGINT')
  t.equal(await agent.exited, 0)
})

t.test('--join works and warns; a file of one\'s own does not', async (t) => {
  const gate = await startGate(t)
  const loud = await runAgent(t, ['http', '3000', '--join', gate.join])
  t.match(await loud.event('warning'), { detail: /list of processes/ })
  await loud.stop()
  const file = join(t.testdir(), 'join')
  writeFileSync(file, `${gate.join}\n`)
  chmodSync(file, 0o600)
  const quiet = await runAgent(t, ['http', '3000'], { env: { POSTERN_JOIN_FILE: file } })
  t.notOk(quiet.events.some(({ event }) => event === 'warning'))
  await quiet.stop()
  chmodSync(file, 0o644)
  const open = await runAgent(t, ['http', '3000', '--join-file', file])
  t.match(await open.event('warning'), { detail: /everyone on this machine can read/ })
})

t.test('postern start serves what its file names, flags before environment before file', async (t) => {
  const gate = await startGate(t)
  gate.services = [{ name: 'demo', hosts: ['demo.example'] }, { name: 'shop', hosts: ['shop.example'] }]
  const demo = await startOrigin(t)
  const shop = await startOrigin(t, (request, response) => response.end(request.headers.host))
  const folder = t.testdir()
  const file = join(folder, 'postern.yaml')
  const joinFile = join(folder, 'join')
  writeFileSync(joinFile, gate.join)
  writeFileSync(file, `join: ${JOIN}\nservices:\n  demo: ${String(demo.port)}\n  shop: { target: "127.0.0.1:${String(shop.port)}", host_header: shop.local }\n`)
  await runAgent(t, ['start', '-c', file, '--join-file', joinFile], { join: JOIN })
  t.equal((await gate.answered(gate.visit('demo', '/a'))).text, 'GET /a\n')
  t.equal((await gate.answered(gate.visit('shop'))).text, 'shop.local')
})

t.test('an origin that is down is reported, and not for every visitor', async (t) => {
  const gate = await startGate(t)
  const agent = await startAgent(t, { join: gate.join, target: '127.0.0.1:1' })
  for (let i = 0; i < 5; i++) t.equal((await gate.answered(gate.visit())).failure, 'origin_refused')
  await agent.event('origin_failed')
  t.equal(agent.events.filter(({ event }) => event === 'origin_failed').length, 1)
})

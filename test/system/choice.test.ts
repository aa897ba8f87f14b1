// The agent chooses its way out itself: it falls back from what is forbidden, climbs back while it serves, finds out what buffers, and knows it the next time.
import { readFileSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import t from 'tap'
import { Agent } from '../../agent/agent.ts'
import { processEnvironment } from '../../agent/environment.ts'
import type { AgentEvent } from '../../agent/events.ts'
import { HEAD_START_MS } from '../../agent/race.ts'
import { parseTarget } from '../../agent/target.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { freePort } from '../../dev/free-port.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startLink } from '../harness/link.ts'
import { startNginx } from '../harness/nginx.ts'
import { startSquid } from '../harness/proxies.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { loadOrigin, startLoad } from './load.ts'
import { HOST, visit } from './visitor.ts'

const LARGE_BYTES = 4 * 1024 * 1024
const UPGRADE = /\r\nupgrade:/i
const gateway = await startGateway(t)
const buffersPort = await freePort()
// A reverse proxy as one is set up without a thought: no upgrades, and answers as a whole.
const thoughtless = 'proxy_pass http://agents; proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; proxy_read_timeout 60s; proxy_send_timeout 60s;'
const nginxPort = await freePort()
const nginx = await startNginx(t, {
  runDir: gateway.runDir,
  port: nginxPort,
  http: `upstream agents { server 127.0.0.1:${String(nginxPort)}; } server { listen 127.0.0.1:${String(buffersPort)}; location / { ${thoughtless} } }`,
})

t.test('under load it falls back from kinds that are forbidden, and climbs back when they are not', async (t) => {
  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const link = await startLink(t, { target: nginx.port })
  const join = decodeJoin(await gateway.addAgent('falls', 'falls', HOST, `http://127.0.0.1:${String(link.port)}`))
  const events: AgentEvent[] = []
  const logs = (): string => `${gateway.logs()}\n${events.map((event) => JSON.stringify(event)).join('\n')}`
  const agent = new Agent({
    join,
    services: { every: { target: parseTarget(origin.url, process.platform) } },
    environment: processEnvironment(),
    userAgent: 'test',
    connections: 2,
    // As in life, a hundred times faster.
    climb: { firstMs: 300, mostMs: 1_000 },
    onEvent: (event) => events.push(event),
  })
  t.teardown(() => agent.close())
  await agent.start()
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs })
  const load = startLoad(nginx.port, LARGE_BYTES)
  const kinds = (): string => agent.now.channels.map(({ kind }) => kind).join()
  await until('it has both channels of the best kind', () => kinds() === 'websocket,websocket', { logs })
  link.forbid(UPGRADE)
  const [small, large] = [load.small(), load.large()]
  link.cut()
  await until('it goes on by requests', () => kinds() === 'sse,sse', { logs })
  await until('visitors notice nothing', () => load.small() > small + 50 && load.large() > large, { logs })
  link.forbid(undefined)
  await until('it has climbed', () => kinds() === 'websocket,websocket', { logs })
  await load.stop()
  t.same(load.failures, [])
  t.equal(gateway.events.filter(({ event, agent: id }) => event === 'session_began' && id === 'falls').length, 1, 'all in one session')
  const moves = events.filter((event) => event.event === 'moved')
  // Down as up by way of another that worked first, if it has to.
  t.match(moves.find(({ from }) => from === 'websocket directly'), { to: /^(sse|long-poll) directly$/ })
  t.ok(moves.some(({ to }) => to === 'sse directly'))
  t.match(moves.findLast(({ from }) => from === 'sse directly'), { why: / works again$/ })
  t.match(moves.findLast(({ to }) => to === 'websocket directly'), { why: 'websocket works again' })
})

t.test('behind a proxy that knows no upgrade and holds answers back it finds long-poll, and begins with it the next time', async (t) => {
  const origin = await startOrigin(t)
  const join = await gateway.addAgent('buffered', 'buffered', 'buffered.test', `http://127.0.0.1:${String(buffersPort)}`)
  const home = t.testdir()
  const first = await runAgent(t, ['http', origin.url], { join, home })
  t.match(await first.event('serving'), { channel: 'long-poll' })
  await until('it is served', async () => (await visit({ port: nginx.port, host: 'buffered.test' })).status === 200, { logs: first.logs })
  first.signal('SIGTERM')
  t.equal(await first.exited, 0)
  t.match(JSON.parse(readFileSync(joinPath(home, 'postern/ways.json'), 'utf8')), { [`http://127.0.0.1:${String(buffersPort)}`]: 'long-poll direct' })
  const log = (): string[] => readFileSync(joinPath(nginx.dir, 'access.log'), 'utf8').split('\n')
  await until('it begins with that, and has a session before its head start is over', async () => {
    // What the round before left is told by the time that this is.
    await visit({ port: buffersPort, path: '/begins' })
    const lines = log().length
    const second = await runAgent(t, ['http', origin.url], { join, home })
    const serving = await second.event('serving')
    t.match(serving, { channel: 'long-poll' })
    const asked = log().slice(lines)
    second.signal('SIGTERM')
    await second.exited
    const tookMs = Date.parse(String(serving.time)) - Date.parse(String((await second.event('connecting')).time))
    if (tookMs >= HEAD_START_MS) return false
    t.notOk(asked.some((line) => line.includes('/channel/events') || / 101 |\/channel HTTP/.test(line)), 'nothing else was tried first')
    return true
  }, { timeoutMs: 60_000 })
})

t.test('a proxy that allows no tunnel still passes on requests', async (t) => {
  const origin = await startOrigin(t)
  const squid = await startSquid(t, { more: 'acl tunnel method CONNECT\nhttp_access deny tunnel' })
  const join = await gateway.addAgent('forwarded', 'forwarded', 'forwarded.test', nginx.url)
  const proxy = `http://user:pass-to-be-kept@127.0.0.1:${String(squid.port)}`
  const agent = await runAgent(t, ['http', origin.url, '--proxy', proxy], { join })
  t.match(await agent.event('serving'), { channel: /^(sse|long-poll)$/ })
  await until('it is served', async () => (await visit({ port: nginx.port, host: 'forwarded.test' })).status === 200, { logs: agent.logs })
  const diagnosis = await runAgent(t, ['diagnose', '--json', '--proxy', proxy], { join, ready: false })
  t.equal(await diagnosis.exited, 0)
  const { tries } = JSON.parse(diagnosis.logs()) as { tries: { kind: string; way: string; works: boolean; why: string }[] }
  const [tunnel, forward] = ['connect', 'forward'].map((how) => `${how} http://127.0.0.1:${String(squid.port)}`)
  t.ok(tries.filter(({ way }) => way === tunnel).every(({ works, why }) => !works && /refuses the tunnel: 403/.test(why)))
  t.same(tries.filter(({ way, works }) => works && way === forward).map(({ kind }) => kind).includes('long-poll'), true)
  t.same(tries.filter(({ way, works }) => works && way === 'direct').map(({ kind }) => kind).sort(), ['long-poll', 'sse', 'tcp', 'websocket'])
  t.notMatch(agent.logs() + diagnosis.logs(), /pass-to-be-kept/)
})

t.test('several connections are told of at both ends', async (t) => {
  const origin = await startOrigin(t)
  const join = await gateway.addAgent('wide', 'wide', 'wide.test', nginx.url)
  const agent = await runAgent(t, ['http', origin.url, '--connections', '3', '--channel', 'tcp'], { join })
  const sessions = async (): Promise<{ agent: string; channels: { kind: string; lanes: number[] }[] }[]> => JSON.parse(await gateway.command('sessions', 'list', '--json')) as never
  const own = async (): Promise<{ kind: string; lanes: number[] }[]> => (await sessions()).find((session) => session.agent === 'wide')!.channels
  await until('the gateway has three channels', async () => (await own()).length === 3 && new Set((await own()).flatMap(({ lanes }) => lanes)).size === 3, { logs: agent.logs })
  t.ok((await own()).every(({ kind, lanes }) => kind === 'tcp' && lanes.length === 1))
  t.equal((await visit({ port: nginx.port, host: 'wide.test' })).status, 200)
})

t.test('an nginx reload moves each of several channels under load, and the old worker goes', async (t) => {
  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const join = await gateway.addAgent('moves', 'moves', 'moves.test', nginx.url)
  const agent = await runAgent(t, ['http', origin.url, '--connections', '3', '--channel', 'websocket'], { join })
  const logs = (): string => `${gateway.logs()}\n${agent.logs()}`
  const workers = async (): Promise<number[]> => {
    const sessions = JSON.parse(await gateway.command('sessions', 'list', '--json')) as { agent: string; channels: { worker: number; lanes: number[] }[] }[]
    return sessions.find((session) => session.agent === 'moves')!.channels.filter(({ lanes }) => lanes.length === 1).map(({ worker }) => worker)
  }
  await until('it has three channels', async () => (await workers()).length === 3, { logs })
  const [old] = await workers()
  const load = startLoad(nginx.port, LARGE_BYTES, 'moves.test')
  await until('visitors are served', () => load.small() > 20, { logs })
  await nginx.reload()
  await until('all three come by the new worker', async () => (await workers()).length === 3 && !(await workers()).includes(old!), { logs })
  const large = load.large()
  await until('large bodies went on', () => load.large() > large + 2, { logs })
  await load.stop()
  t.same(load.failures, [])
  t.notOk(agent.events.some(({ event }) => event === 'lost'), 'the session was never without a channel')
})

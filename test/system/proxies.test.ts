// The agent's way out through real proxies: squid and tinyproxy by CONNECT, dante by SOCKS5, with and without a password; and what it says when they say no.
import t from 'tap'
import { runAgent, startAgent } from '../harness/agent.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { type RunningNginx, startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { type RunningProxy, startDante, startSquid, startTinyproxy } from '../harness/proxies.ts'
import { until } from '../harness/until.ts'
import { body, hashOf } from './bodies.ts'
import { HOST, visit } from './visitor.ts'

const LARGE_BYTES = 8 * 1024 * 1024
const USER = { name: 'us er', password: 'p:ss/wörd' }
const userInfo = `${encodeURIComponent(USER.name)}:${encodeURIComponent(USER.password)}`
// tinyproxy's file has no way to quote.
const PLAIN_USER = { name: 'user', password: 'secret' }

const origin = await startOrigin(t, (request, response) => {
  if (request.method === 'POST') return void request.pipe(response)
  return void response.end('ok')
})
const gateway: GatewayProcess = await startGateway(t)
const nginx: RunningNginx = await startNginx(t, { runDir: gateway.runDir })
const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)

const ways: Record<string, { start: () => Promise<RunningProxy>; url: (port: number) => string }> = {
  'squid by CONNECT': { start: () => startSquid(t), url: (port) => `http://127.0.0.1:${String(port)}` },
  'squid with a name and a password': { start: () => startSquid(t, { user: USER }), url: (port) => `http://${userInfo}@127.0.0.1:${String(port)}` },
  'tinyproxy with a name and a password': { start: () => startTinyproxy(t, { user: PLAIN_USER }), url: (port) => `http://user:secret@127.0.0.1:${String(port)}` },
  'dante by SOCKS5': { start: () => startDante(t), url: (port) => `socks5://127.0.0.1:${String(port)}` },
}

for (const [name, { start, url }] of Object.entries(ways)) {
  t.test(`an agent serves through ${name}`, async (t) => {
    const proxy = await start()
    const agent = await startAgent(t, { join, target: origin.url, args: ['--proxy', url(proxy.port)] })
    await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs: () => agent.logs() + proxy.logs() })
    const echo = await visit({ port: nginx.port, method: 'POST', headers: ['Transfer-Encoding', 'chunked'], body: body(1, LARGE_BYTES) })
    t.equal(echo.sha256, hashOf(1, LARGE_BYTES))
    t.notMatch(agent.logs(), /p:ss|p%3Ass|secret/, 'no password is in what it says')
    await proxy.stop()
    await agent.event('lost')
    await agent.stop()
  })
}

t.test('the environment names the way, and NO_PROXY excepts from it', async (t) => {
  const proxy = await startSquid(t)
  const env = { http_proxy: `http://127.0.0.1:${String(proxy.port)}` }
  const through = await runAgent(t, ['http', origin.url], { join, env })
  await proxy.stop()
  await through.event('lost')
  const around = await runAgent(t, ['http', origin.url], { join, env: { ...env, NO_PROXY: 'example.com, 127.0.0.1' } })
  t.match(around.logs(), /"serving"/)
})

t.test('a proxy that says no is told of, with its reason', async (t) => {
  const squid = await startSquid(t, { user: USER })
  const closed = await startSquid(t, { more: 'http_access deny all' })
  for (const [url, says] of [
    [`http://127.0.0.1:${String(squid.port)}`, /wants a name and a password \(407\)/],
    [`http://user:wrong@127.0.0.1:${String(squid.port)}`, /does not take this name and password \(407\)/],
    [`http://127.0.0.1:${String(closed.port)}`, /refuses the tunnel: 403/],
    [`socks5://127.0.0.1:${String(squid.port)}`, /does not answer/],
    ['http://127.0.0.1:9', /the proxy 127\.0\.0\.1:9 can not be reached/],
  ] as const) {
    const agent = await runAgent(t, ['http', origin.url, '--once', '--proxy', url], { join, ready: false })
    t.equal(await agent.exited, 4, url.replace(/\/\/.*@/, '//'))
    t.match(agent.logs(), says)
    t.notMatch(agent.logs(), /wrong@/)
  }
})

// An agent that chooses for itself behind proxies that mean no good: no tunnel, no upgrade, cuts, answers held back. It stays in service, and no request fails.
import t, { type Test } from 'tap'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startLink } from '../harness/link.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { startSquid } from '../harness/proxies.ts'
import { until } from '../harness/until.ts'
import { loadOrigin, startLoad } from './load.ts'
import { HOST, visit } from './visitor.ts'

const LARGE_BYTES = 4 * 1024 * 1024
const CUTS = 4

/** Puts the load on, cuts all of its connections so many times, and sees that nothing failed; resolves with the kinds of channels there were. */
async function staysInService(t: Test, proxy: { readonly port: number; logs(): string }, cuts: number): Promise<string[]> {
  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const gateway = await startGateway(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)
  const link = await startLink(t, { target: proxy.port })
  const agent = await runAgent(t, ['http', origin.url, '--proxy', `http://127.0.0.1:${String(link.port)}`], { join })
  const logs = (): string => `${gateway.logs()}\n${agent.logs()}\n${proxy.logs()}`
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs })
  const load = startLoad(nginx.port, LARGE_BYTES)
  const resumed = (): readonly Readonly<Record<string, unknown>>[] => gateway.events.filter((event) => event.event === 'session_resumed')
  const goneOn = (): (() => boolean) => {
    const [small, large] = [load.small(), load.large()]
    return () => load.small() > small + 8 && load.large() > large
  }
  await until('requests go on', goneOn(), { logs })
  for (let cut = 0; cut < cuts; cut++) {
    const before = resumed().length
    link.cut()
    let unharmed = goneOn()
    await until('another channel', () => {
      if (resumed().length > before) return true
      // Each request of an http channel has its own connection here: a cut between two of them hits nothing.
      if (unharmed()) {
        link.cut()
        unharmed = goneOn()
      }
      return false
    }, { logs })
    await until('requests go on', goneOn(), { logs })
  }
  await load.stop()
  t.same(load.failures, [])
  t.equal(gateway.events.filter((event) => event.event === 'session_began').length, 1, 'all in one session')
  return [(await agent.event('serving')).channel as string, ...resumed().map((event) => event.kind as string)]
}

t.test('behind a squid that allows no tunnel, forbids upgrades, and is cut again and again', async (t) => {
  const squid = await startSquid(t, { more: 'acl tunnel method CONNECT\nhttp_access deny tunnel' })
  const kinds = await staysInService(t, squid, CUTS)
  t.ok(kinds.every((kind) => kind === 'sse' || kind === 'long-poll'), kinds.join())
})

t.test('behind a proxy that holds answers back until they are whole, by polls', async (t) => {
  // What ends with its connection, as HTTP/1.0 has it, nginx holds until a buffer is full or it is whole.
  const holding = 'proxy_buffering on; proxy_buffers 8 256k; proxy_busy_buffers_size 512k; proxy_ignore_headers X-Accel-Buffering; proxy_http_version 1.0; client_max_body_size 2m;'
  const proxy = await startNginx(t, {
    runDir: '/run/postern',
    server: `location / { ${holding} proxy_set_header Host $http_host; proxy_pass http://$http_host$request_uri; }`,
    expected: [/client sent invalid method|upstream/],
  })
  t.same(new Set(await staysInService(t, proxy, 1)), new Set(['long-poll']))
})

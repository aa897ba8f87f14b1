// The http channels through proxies that take plain requests alone, squid and tinyproxy, and through one that holds event streams back; all of them real.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Dial, DialFailure } from '../../agent/channel-dial.ts'
import { dialLongPoll } from '../../agent/long-poll.ts'
import { dialSse } from '../../agent/sse.ts'
import type { Way } from '../../agent/way.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { missing, startNginx } from '../harness/nginx.ts'
import { startSquid, startTinyproxy } from '../harness/proxies.ts'
import { until } from '../harness/until.ts'
import { Random } from '../protocol/simulation.ts'
import { type Kind, KINDS, startRig } from './ends.ts'

const NAMES = ['sse', 'long-poll'] as const
const DIALS: Readonly<Record<string, Dial>> = { sse: dialSse, 'long-poll': dialLongPoll }
const USER = { name: 'us er', password: 'p:ss/wörd' }
const PLAIN_USER = { name: 'user', password: 'secret' }
const NO_TUNNEL = 'acl tunnel method CONNECT\nhttp_access deny tunnel'

/** The kind, asked of a proxy for each request. */
const forwarded = (name: string, proxy: string): Kind => {
  const way: Way = { kind: 'forward', proxy: new URL(proxy) }
  return { ...KINDS[name]!, options: ({ port }) => ({ gateway: `http://127.0.0.1:${String(port)}`, way }) }
}

/** Messages of every size both ways, and what was said last before the end. */
async function carries(t: Test, kind: Kind): Promise<void> {
  const { agent, gateway } = await (await startRig(t, kind)).join()
  const random = new Random(4)
  const sent = Array.from({ length: 300 }, (_value, i) => random.bytes(i % 10 === 0 ? MESSAGE_MAX_BYTES : 1 + random.below(3_000)))
  for (const message of sent) for (const end of [agent, gateway]) end.carrier.send(message)
  await until('all are there', () => agent.messages.length === sent.length && gateway.messages.length === sent.length)
  for (const end of [agent, gateway]) t.ok(end.messages.every((message, i) => message.equals(sent[i]!)))
  agent.carrier.send(Buffer.from('last'))
  agent.carrier.close()
  await until('it is closed', () => agent.closed.length > 0)
  t.equal(gateway.messages.at(-1)!.toString(), 'last')
}

for (const name of NAMES) {
  t.test(`${name}: through a squid that allows no tunnel, and asks for a name and a password`, async (t) => {
    const squid = await startSquid(t, { user: USER, more: NO_TUNNEL })
    await carries(t, forwarded(name, `http://${encodeURIComponent(USER.name)}:${encodeURIComponent(USER.password)}@127.0.0.1:${String(squid.port)}`))
    await squid.stop()
  })

  t.test(`${name}: through a tinyproxy, that closes every connection and does not say so`, async (t) => {
    const tinyproxy = await startTinyproxy(t, { user: PLAIN_USER })
    await carries(t, forwarded(name, `http://user:secret@127.0.0.1:${String(tinyproxy.port)}`))
    await tinyproxy.stop()
  })
}

const failure = (dial: Dial, gateway: string, way: Way): Promise<Carrier | DialFailure> => new Promise((resolve) => dial({ gateway, way, userAgent: 'test' }, resolve))

t.test('a proxy that says no is named, with its reason', async (t) => {
  const known = await startSquid(t, { user: USER })
  const closed = await startSquid(t, { more: 'http_access deny all' })
  const open = await startSquid(t)
  for (const [proxy, gateway, says] of [
    [`http://127.0.0.1:${String(known.port)}`, 'http://127.0.0.1:9', /the proxy 127\.0\.0\.1:\d+ wants a name and a password \(407\)/],
    [`http://user:wrong@127.0.0.1:${String(known.port)}`, 'http://127.0.0.1:9', /the proxy 127\.0\.0\.1:\d+ does not take this name and password \(407\)/],
    [`http://127.0.0.1:${String(closed.port)}`, 'http://127.0.0.1:9', /the proxy 127\.0\.0\.1:\d+ gives an answer that is no gateway's: 403 Forbidden/],
    [`http://127.0.0.1:${String(open.port)}`, 'http://127.0.0.1:9', /the proxy 127\.0\.0\.1:\d+ gives an answer that is no gateway's: 503 Service Unavailable/],
  ] as const) {
    for (const name of NAMES) {
      const outcome = await failure(DIALS[name]!, gateway, { kind: 'forward', proxy: new URL(proxy) })
      t.match(outcome, { reason: 'proxy', detail: says }, `${name}: ${proxy.replace(/\/\/.*@/, '//')}`)
    }
  }
})

for (const binary of ['debian', 'new'] as const) {
  t.test(`nginx (${binary}) as a proxy that holds answers back until they are whole: sse is given up, long-poll works`, { skip: missing(binary) ?? false }, async (t) => {
    const runDir = mkdtempSync(join(tmpdir(), 'postern-held-'))
    t.teardown(() => rmSync(runDir, { recursive: true, force: true }))
    const rig = await startRig(t, { ...KINDS['long-poll']!, options: ({ port }) => ({ gateway: `http://127.0.0.1:${String(port)}` }) })
    // Of an answer in chunks nginx passes on each; one that ends with its connection, as HTTP/1.0 has it, it holds until a buffer is full.
    const holding = 'proxy_buffering on; proxy_buffers 8 256k; proxy_busy_buffers_size 512k; proxy_ignore_headers X-Accel-Buffering; proxy_http_version 1.0; client_max_body_size 2m;'
    const server = `location / { ${holding} proxy_pass http://127.0.0.1:${String(rig.link.port)}; }`
    const nginx = await startNginx(t, { runDir, binary, server })
    const begun = performance.now()
    const outcome = await failure(dialSse, nginx.url, { kind: 'direct' })
    t.match(outcome, { reason: 'unreachable', detail: /the event stream is held back on the way$/ })
    // Within 5 s, or twice that where the machine has other work. The next longer time on this way is 35 s.
    t.ok(performance.now() - begun < 10_000, 'in time')

    const before = rig.came.length
    const agent = await new Promise<Carrier>((resolve, reject) => dialLongPoll({ gateway: nginx.url, userAgent: 'test' }, (one) => ('reason' in one ? reject(new Error(one.detail)) : resolve(one))))
    const gateway = await until('it came', () => rig.came[before])
    const heard: Buffer[] = []
    agent.onMessage = (message) => heard.push(Buffer.from(message))
    const message = new Random(5).bytes(60_000)
    for (let i = 0; i < 50; i++) for (const carrier of [agent, gateway.carrier]) carrier.send(message)
    await until('all are there', () => heard.length === 50 && gateway.messages.length === 50)
    t.ok([...heard, ...gateway.messages].every((each) => each.equals(message)))
    agent.close()
    await until('it is closed', () => gateway.closed.length > 0)
  })
}

// The gateway's own ports: every channel that uses a socket comes in by them, with TLS and without; what says nothing is closed; certificates are renewed while it runs.
import { execFileSync } from 'node:child_process'
import { renameSync, writeFileSync } from 'node:fs'
import net, { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import tls from 'node:tls'
import type { Dial } from '../../agent/channel-dial.ts'
import { processEnvironment } from '../../agent/environment.ts'
import { dialHttp2 } from '../../agent/http2.ts'
import { dialLongPoll } from '../../agent/long-poll.ts'
import { dialSse } from '../../agent/sse.ts'
import { dialTcp } from '../../agent/tcp.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import { probe } from '../../protocol/probe.ts'
import { CERTIFICATE, KEY } from '../agent/certificate.ts'
import { holdSockets } from '../harness/activation.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { until } from '../harness/until.ts'
import { commandsOf, folders } from './commands.ts'

tls.setDefaultCACertificates([...tls.getCACertificates('default'), CERTIFICATE])

const DIALS: Readonly<Record<string, Dial>> = { websocket: dialWebsocket, http2: dialHttp2, tcp: dialTcp, sse: dialSse, 'long-poll': dialLongPoll }
const TIMES = { heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 }
const PROBE_MS = 10_000

interface Ports {
  readonly gateway: GatewayProcess
  readonly plain: number
  readonly tls: number
  readonly cert: string
  readonly key: string
}

async function start(t: Test, settings: Readonly<Record<string, string | number>> = {}): Promise<Ports> {
  const dir = t.testdir({ 'cert.pem': CERTIFICATE, 'key.pem': KEY })
  const [cert, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')]
  const ports = { agents_address: '127.0.0.1:0', agents_tls_address: '127.0.0.1:0', agents_tls_cert: cert, agents_tls_key: key }
  const gateway = await startGateway(t, { settings: { ...ports, ...settings } })
  const portOf = (secure: boolean): number => Number(/:(\d+)$/.exec(String(gateway.events.find((event) => event.event === 'port_open' && event.tls === secure)?.address))?.[1])
  return { gateway, plain: portOf(false), tls: portOf(true), cert, key }
}

/** What comes of a dial: the kind of the channel over which a sign of life came back, or why there is none. */
function reach(t: Test, dial: Dial, gateway: string): Promise<string> {
  return new Promise((resolve) => {
    dial({ gateway, userAgent: 'test' }, (outcome) => {
      if ('reason' in outcome) return resolve(`${outcome.reason}: ${outcome.detail}`)
      t.teardown(() => outcome.abort())
      probe(outcome, processEnvironment(TIMES), PROBE_MS, (failure) => resolve(failure ?? outcome.kind))
    })
  })
}

/** Resolves with all that came until the connection was closed. */
function untilClosed(socket: net.Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    socket.on('error', () => undefined)
    socket.once('close', () => resolve(text))
  })
}

t.test('every channel that uses a socket comes in, with TLS and without', async (t) => {
  const ports = await start(t)
  for (const [kind, dial] of Object.entries(DIALS)) {
    t.equal(await reach(t, dial, `tcp://127.0.0.1:${String(ports.plain)}`), kind)
    t.equal(await reach(t, dial, `tls://localhost:${String(ports.tls)}`), kind)
    t.equal(await reach(t, dial, `https://localhost:${String(ports.tls)}`), kind, 'the port speaks HTTP too')
  }
})

t.test('an agent that takes TLS for none, or none for TLS, hears of it at once', async (t) => {
  const ports = await start(t)
  for (const dial of Object.values(DIALS)) {
    t.match(await reach(t, dial, `tls://localhost:${String(ports.plain)}`), /^(tls|unreachable): /)
    t.match(await reach(t, dial, `tcp://127.0.0.1:${String(ports.tls)}`), /^(unreachable|http|the peer|the connection|read)/)
  }
})

t.test('at a port nobody is believed to be nginx', async (t) => {
  const ports = await start(t)
  const socket = connect(ports.plain, '127.0.0.1')
  socket.write('GET /_postern/channel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: postern\r\nX-Forwarded-For: 203.0.113.9\r\nPostern-Worker: 77\r\n\r\n\0\0\x01\x7f')
  await untilClosed(socket)
  const refused = await until('it is noted', () => ports.gateway.events.find((event) => event.event === 'agent_refused'))
  t.match(refused, { peer: '127.0.0.1', code: 'protocol_error' })
})

t.test('a connection that asks for nothing is closed when a handshake would be over, whatever it began with', async (t) => {
  const ports = await start(t, { handshake_ms: 200 })
  const begins = ['', 'P', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'GET /_postern/channel HTTP/1.1\r\nHost: x\r\nX: ']
  for (const begin of begins) {
    const socket = connect(ports.plain, '127.0.0.1')
    socket.write(begin)
    t.notMatch(await untilClosed(socket), /200|101/, JSON.stringify(begin))
    const secure = tls.connect({ port: ports.tls, host: 'localhost' })
    secure.write(begin)
    t.notMatch(await untilClosed(secure), /200|101/, `${JSON.stringify(begin)} over TLS`)
  }
  for (const begin of ['', '\x16\x03\x01\x02\x00\x01']) t.equal(await untilClosed(connect(ports.tls, '127.0.0.1').setNoDelay().once('connect', function (this: net.Socket) { this.write(begin, 'latin1') })), '', 'amid the handshake of TLS')
})

t.test('TLS is 1.2 at least, and who offers to speak something else alone is told', async (t) => {
  const ports = await start(t)
  const said = (options: tls.ConnectionOptions): Promise<string> => new Promise((resolve) => {
    const socket = tls.connect({ port: ports.tls, host: 'localhost', ...options }, () => resolve(`${String(socket.getProtocol())} ${String(socket.alpnProtocol)}`))
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(String(error.code)))
    t.teardown(() => socket.destroy())
  })
  t.match(await said({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }), /^(ERR_SSL|EPROTO|ECONNRESET)/)
  t.equal(await said({ maxVersion: 'TLSv1.2', ALPNProtocols: ['postern'] }), 'TLSv1.2 postern')
  t.equal(await said({ ALPNProtocols: ['http/1.1', 'h2'] }), 'TLSv1.3 h2')
  t.match(await said({ ALPNProtocols: ['spdy/3'] }), /NO_APPLICATION_PROTOCOL/)
})

/** A certificate for localhost that nobody else has. */
function renew(cert: string, key: string): string {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=renewed', '-keyout', `${key}.new`, '-out', `${cert}.new`], { stdio: 'ignore' })
  return 'renewed'
}

t.test('a renewed certificate is shown to whoever comes next, and a half written one to nobody', async (t) => {
  const { gateway, tls: port, cert, key } = await start(t)
  const shown = (): Promise<string> => new Promise((resolve, reject) => {
    const socket = tls.connect({ port, host: 'localhost', rejectUnauthorized: false }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN))
      socket.destroy()
    })
    socket.once('error', reject)
  })
  t.equal(await shown(), 'localhost')
  const kept = tls.connect({ port, host: 'localhost' })
  t.teardown(() => kept.destroy())
  await new Promise((resolve) => kept.once('secureConnect', resolve))
  const subject = renew(cert, key)
  renameSync(`${cert}.new`, cert)
  t.equal(await shown(), 'localhost', 'its key is still to come')
  await until('it is noted', () => gateway.events.some(({ event, detail }) => event === 'certificate_not_renewed' && /can not be used together/.test(String(detail))))
  renameSync(`${key}.new`, key)
  t.equal(await shown(), subject)
  t.notOk(kept.destroyed, 'who is there stays')
  writeFileSync(cert, 'no certificate')
  t.equal(await shown(), subject)
})

t.test('a port may be somebody else’s who opened it: agents that come while the gateway is away wait for it', async (t) => {
  const dir = t.testdir({ 'cert.pem': CERTIFICATE, 'key.pem': KEY })
  const files = { agents_tls_cert: join(dir, 'cert.pem'), agents_tls_key: join(dir, 'key.pem') }
  const gateway = await holdSockets(t, files, ['agents-port', 'agents-tls-port'])
  const urls = [`tcp://127.0.0.1:${String(gateway.port('agents-port'))}`, `tls://localhost:${String(gateway.port('agents-tls-port'))}`]
  await gateway.start()
  for (const url of urls) t.equal(await reach(t, dialTcp, url), 'tcp')
  t.equal(await gateway.end('SIGTERM'), '0')
  const waiting = Promise.all(urls.map((url) => reach(t, dialTcp, url)))
  await gateway.start()
  t.same(await waiting, ['tcp', 'tcp'])
  const without = await holdSockets(t, {}, ['agents-tls-port'])
  await t.rejects(without.start(), /not_started[^]*the inherited socket agents-tls-port needs agents_tls_cert and agents_tls_key/)
})

t.test('what can not be is said at start, in one line, with the code that tells whose fault it is', async (t) => {
  const dir = t.testdir({ 'cert.pem': CERTIFICATE, 'key.pem': KEY, 'empty.pem': '' })
  execFileSync('openssl', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', join(dir, 'other.pem')], { stdio: 'ignore' })
  const taken = net.createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  t.teardown(() => taken.close())
  const port = String((taken.address() as net.AddressInfo).port)
  const run = commandsOf(folders(t))
  const secure = (cert: string, key: string): string => `start --agents-tls-address 127.0.0.1:0 --agents-tls-cert ${join(dir, cert)} --agents-tls-key ${join(dir, key)}`
  const cases: [string, number, RegExp][] = [
    [secure('missing.pem', 'key.pem'), 2, /agents_tls_cert: ENOENT/],
    [secure('cert.pem', 'missing.pem'), 2, /agents_tls_key: ENOENT/],
    [secure('cert.pem', 'other.pem'), 2, /can not be used together: .*mismatch/],
    [secure('empty.pem', 'key.pem'), 2, /can not be used together/],
    [`${secure('cert.pem', 'key.pem')} --agents-tls-client-ca ${join(dir, 'empty.pem')}`, 2, /agents_tls_client_ca: .*holds no certificate/],
    [`${secure('cert.pem', 'key.pem')} --agents-tls-client-ca ${join(dir, 'missing.pem')}`, 2, /agents_tls_client_ca: ENOENT/],
    ['start --agents-tls-address 127.0.0.1:0', 2, /agents_tls_address needs agents_tls_cert and agents_tls_key/],
    ['start --agents-address 192.0.2.1:0', 2, /agents_address: 192\.0\.2\.1:0: .*EADDRNOTAVAIL/],
    [`start --agents-address 127.0.0.1:${port}`, 1, /agents_address: .*another process listens there/],
    [secure('cert.pem', 'other.pem').replace('start', 'check'), 2, /can not be used together/],
  ]
  for (const [line, code, says] of cases) {
    const ran = await run(line)
    t.equal(ran.code, code, line)
    t.match(ran.stdout + ran.stderr, says)
  }
})

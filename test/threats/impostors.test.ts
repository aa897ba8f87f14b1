// Threat 28: over TLS an agent says nothing to a server that is not its gateway, by any channel.
import http from 'node:http'
import net from 'node:net'
import tls from 'node:tls'
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { pinOf } from '../../agent/trust.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { makeAuthority, type Signed } from './authority.ts'
import { holds } from './between.ts'

const authority = makeAuthority(t)
const good = authority.sign('gateway', { names: ['localhost'] })
const other = authority.sign('gateway', { names: ['localhost'] })
const client = authority.sign('agent')
const stranger = makeAuthority(t)
const ports = { plain: await freePort(), tls: await freePort(), asks: await freePort() }
const secured = { agents_tls_cert: good.certFile, agents_tls_key: good.keyFile }
const gateway = await startGateway(t, { settings: { ...secured, agents_address: `127.0.0.1:${String(ports.plain)}`, agents_tls_address: `127.0.0.1:${String(ports.tls)}` } })
const join = await gateway.addAgent('agent-1', 'demo', 'demo.localhost', `https://localhost:${String(ports.tls)}`)
const words = [decodeJoin(join).secret, join, 'agent-1']
/** `auto` tries all of them. */
const KINDS = ['websocket', 'http2', 'tcp', 'sse', 'long-poll']
const pin = (signed: Signed): string => pinOf(new X509Certificate(signed.cert))

/** What becomes of an agent that tries once. */
async function tried(url: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<{ code: number | NodeJS.Signals; said: string; serves: boolean }> {
  const agent = await runAgent(t, ['http', '3000', '--once', '--gateway', url, ...args], { join, env, ready: false })
  void agent.event('serving').then(() => agent.signal('SIGTERM'), () => undefined)
  const code = await agent.exited
  return { code, said: agent.logs(), serves: agent.events.some(({ event }) => event === 'serving') }
}

interface Impostor {
  readonly port: number
  /** All that was heard once TLS stood, if it did. */
  readonly heard: Buffer[]
}

async function impostor(options: tls.TlsOptions | undefined, answer?: string): Promise<Impostor> {
  const heard: Buffer[] = []
  const serve = (socket: net.Socket): void => {
    socket.on('data', (chunk: Buffer) => {
      heard.push(chunk)
      if (answer !== undefined) socket.end(answer)
    })
    socket.on('error', () => undefined)
  }
  const server = options === undefined ? net.createServer(serve) : tls.createServer({ ALPNProtocols: ['h2', 'http/1.1', 'postern'], ...options }, serve)
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void server.close())
  return { port: (server.address() as net.AddressInfo).port, heard }
}

t.test('the right gateway is served over TLS by each channel, with its authority and its key pinned', async (t) => {
  for (const kind of KINDS) t.ok((await tried(`https://localhost:${String(ports.tls)}`, ['--channel', kind, '--ca', authority.certFile, '--pin', `${pin(other)},${pin(good)}`])).serves, kind)
  t.ok((await tried(`tls://localhost:${String(ports.tls)}`, [], { POSTERN_CA: authority.certFile, POSTERN_PIN: Buffer.from(pin(good), 'base64').toString('hex') })).serves, 'by the environment')
})

const SERVERS: Readonly<Record<string, tls.TlsOptions>> = {
  'signed by nobody that is known': stranger.sign('gateway', { names: ['localhost'] }),
  'signed by itself': authority.sign('gateway', { names: ['localhost'], self: true }),
  'of another name': authority.sign('gateway', { names: ['other.test'] }),
  'of no name': authority.sign('gateway'),
  'that is over': authority.sign('gateway', { names: ['localhost'], days: -1 }),
  'of another key than the pinned one': other,
  'shown over TLS 1.1': { ...good, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' },
}

for (const [name, options] of Object.entries(SERVERS)) {
  t.test(`a certificate ${name}: nothing is said to it`, async (t) => {
    const { port, heard } = await impostor(options)
    const { code, said } = await tried(`https://localhost:${String(port)}`, ['--ca', authority.certFile, '--pin', pin(good)])
    t.equal(code, 4)
    t.match(said, /"reason":"tls"/)
    t.equal(Buffer.concat(heard).length, 0, Buffer.concat(heard).toString('latin1'))
  })
}

t.test('a server without TLS hears no word of the agent where TLS was asked for', async (t) => {
  const { port, heard } = await impostor(undefined, 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n')
  t.equal((await tried(`https://localhost:${String(port)}`, ['--ca', authority.certFile])).code, 4)
  for (const word of [...words, '/_postern/']) t.notOk(holds(Buffer.concat(heard), word))
})

t.test('a redirect to a place without TLS is not followed', async (t) => {
  const plain = await impostor(undefined)
  const location = `http://127.0.0.1:${String(plain.port)}/_postern/channel`
  const { port } = await impostor(good, `HTTP/1.1 302 Found\r\nLocation: ${location}\r\nContent-Length: 0\r\n\r\n`)
  t.equal((await tried(`https://localhost:${String(port)}`, ['--ca', authority.certFile])).code, 4)
  t.equal(plain.heard.length, 0)
})

t.test('a proxy of the environment that ends TLS itself hears no word of the agent', async (t) => {
  const { port: mallory, heard } = await impostor(stranger.sign('gateway', { names: ['localhost'] }))
  const proxy = http.createServer()
  proxy.on('connect', (_request, socket) => {
    const far = net.connect(mallory, '127.0.0.1')
    socket.write('HTTP/1.1 200 OK\r\n\r\n')
    socket.pipe(far).pipe(socket)
    for (const each of [socket, far]) each.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void proxy.close())
  const way = `http://127.0.0.1:${String((proxy.address() as net.AddressInfo).port)}`
  t.equal((await tried(`https://localhost:${String(ports.tls)}`, ['--ca', authority.certFile, '--proxy', way])).code, 4)
  t.equal(heard.length, 0)
})

t.test('without an authority of its own the system’s count, and who leaves TLS away may name neither authority nor pin', async (t) => {
  t.equal((await tried(`https://localhost:${String(ports.tls)}`, [])).code, 4)
  t.ok((await tried(`https://localhost:${String(ports.tls)}`, [], { NODE_EXTRA_CA_CERTS: authority.certFile })).serves)
  for (const args of [['--ca', authority.certFile], ['--pin', pin(good)]]) {
    const { code, said } = await tried(`http://localhost:${String(ports.plain)}`, args)
    t.equal(code, 2)
    t.match(said, /speaks no TLS/)
  }
  for (const [option, value] of [['--pin', 'abc'], ['--ca', good.keyFile.replace('.key', '.none')], ['--client-cert', client.certFile]] as const) t.equal((await tried(`https://localhost:${String(ports.tls)}`, [option, value])).code, 2, option)
})

t.test('a port that asks for certificates lets in who shows a right one, and nobody else', async (t) => {
  const asking = await startGateway(t, { settings: { ...secured, agents_tls_client_ca: authority.certFile, agents_tls_address: `127.0.0.1:${String(ports.asks)}` } })
  const url = `https://localhost:${String(ports.asks)}`
  const join = await asking.addAgent('agent-1', 'demo', 'demo.localhost', url)
  const shows = async (channel: string, shown: Signed | undefined): Promise<boolean> => {
    const certificate = shown === undefined ? [] : ['--client-cert', shown.certFile, '--client-key', shown.keyFile]
    const agent = await runAgent(t, ['http', '3000', '--once', '--channel', channel, '--ca', authority.certFile, ...certificate], { join, ready: false })
    void agent.event('serving').then(() => agent.signal('SIGTERM'), () => undefined)
    await agent.exited
    return agent.events.some(({ event }) => event === 'serving')
  }
  for (const kind of KINDS) t.ok(await shows(kind, client), kind)
  t.notOk(await shows('auto', stranger.sign('agent')), 'of another authority')
  t.notOk(await shows('auto', undefined), 'none')
})

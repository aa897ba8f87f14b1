// The websocket channel: where it dials, how it masks, what it takes of a hostile peer, and that it tells when it is full.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import t from 'tap'
import { type WebSocket, WebSocketServer } from 'ws'
import { channelUrl, type DialFailure } from '../../agent/channel-dial.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { Kind, RECORD_NUMBERED, RECORD_SEALED } from '../../protocol/messages.ts'
import { type Ends } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { holdWrites } from '../harness/hold-writes.ts'
import { CERTIFICATE, KEY } from './certificate.ts'

interface Server {
  readonly url: string
  /** Every byte that came after the request's head. */
  raw: Buffer
  socket: WebSocket | undefined
  duplex: Duplex | undefined
  readonly messages: Buffer[]
  path: string
}

async function startServer(t: Ends): Promise<Server> {
  const http_ = http.createServer()
  const sockets = new WebSocketServer({ noServer: true })
  await new Promise<void>((resolve) => http_.listen(0, '127.0.0.1', resolve))
  const server: Server = { url: `http://127.0.0.1:${String((http_.address() as AddressInfo).port)}`, raw: Buffer.alloc(0), socket: undefined, duplex: undefined, messages: [], path: '' }
  http_.on('upgrade', (request, socket: Duplex, head) => {
    server.path = request.url ?? ''
    server.duplex = socket
    socket.on('data', (chunk: Buffer) => (server.raw = Buffer.concat([server.raw, chunk])))
    sockets.handleUpgrade(request, socket, head, (ws) => {
      server.socket = ws
      ws.on('error', () => undefined)
      ws.on('message', (data) => server.messages.push(data as Buffer))
    })
  })
  t.teardown(() => {
    server.duplex?.destroy()
    http_.closeAllConnections()
    http_.close()
  })
  return server
}

function dial(gateway: string): Promise<Carrier | DialFailure> {
  return new Promise((resolve) => dialWebsocket({ gateway, userAgent: 'test' }, resolve))
}

async function connect(t: Ends, server: Server): Promise<Carrier> {
  const carrier = await dial(server.url)
  if ('reason' in carrier) throw new Error(carrier.detail)
  t.teardown(() => carrier.abort())
  await until('the server has it', () => server.socket !== undefined)
  return carrier
}

t.test('the channel is under the path of the gateway', (t) => {
  const cases = [
    ['https://gate.example', 'https://gate.example/_postern/channel'],
    ['http://gate.example:8080/', 'http://gate.example:8080/_postern/channel'],
    ['https://gate.example/edge/?x#y', 'https://gate.example/edge/_postern/channel'],
  ] as const
  for (const [gateway, channel] of cases) t.equal(channelUrl(gateway).href, channel)
  t.end()
})

t.test('without TLS a sealed record has a mask of zeros, everything else a random one', async (t) => {
  const server = await startServer(t)
  const carrier = await connect(t, server)
  t.equal(server.path, '/_postern/channel')
  const kinds = [Kind.hello, Kind.beat, Kind.record, Kind.record | RECORD_NUMBERED, Kind.record | RECORD_SEALED, Kind.record | RECORD_SEALED | RECORD_NUMBERED]
  for (const kind of kinds) {
    const sent = Buffer.from([kind, 1, 2, 3])
    server.raw = Buffer.alloc(0)
    carrier.send(sent)
    await until('it is there', () => server.raw.length >= 10)
    const mask = server.raw.readUInt32BE(2)
    t.equal(mask === 0, kind >= (Kind.record | RECORD_SEALED) && kind < Kind.beat, `kind ${String(kind)}`)
    t.same(server.messages.at(-1), sent)
    t.same(sent, Buffer.from([kind, 1, 2, 3]), 'what was given is not changed')
  }
})

t.test('text, and a message that is too large, end the channel', async (t) => {
  for (const message of ['text', Buffer.alloc(MESSAGE_MAX_BYTES + 1)]) {
    const server = await startServer(t)
    const carrier = await connect(t, server)
    let closed: string | undefined
    carrier.onMessage = () => t.fail('a message')
    carrier.onClosed = (reason) => (closed = reason)
    server.socket!.send(message)
    await until('it is closed', () => closed)
  }
})

t.test('the largest message passes in both directions', async (t) => {
  const server = await startServer(t)
  const carrier = await connect(t, server)
  const largest = Buffer.alloc(MESSAGE_MAX_BYTES, 7)
  let received: Buffer | undefined
  carrier.onMessage = (message) => (received = message)
  carrier.send(largest)
  server.socket!.send(largest)
  await until('both are there', () => received !== undefined && server.messages.length === 1)
  t.ok(received!.equals(largest))
  t.ok(server.messages[0]!.equals(largest))
})

t.test('a full socket says so, and says when it is not any more', async (t) => {
  const server = await startServer(t)
  const carrier = await connect(t, server)
  server.duplex!.pause()
  let drained = 0
  carrier.onDrain = () => drained++
  const message = Buffer.alloc(65_536, Kind.record | RECORD_SEALED)
  let sent = 1
  while (carrier.send(message)) sent++
  t.equal(drained, 0)
  server.duplex!.resume()
  await until('it drains', () => drained > 0)
  await until('all is there', () => server.messages.length === sent)
})

t.test('a small message sent while a full socket empties takes nothing back: it still says when there is room', async (t) => {
  const server = await startServer(t)
  let own: Socket | undefined
  const onSocket = (message: unknown): void => void (own ??= (message as { socket: Socket }).socket)
  subscribe('net.client.socket', onSocket)
  const carrier = await connect(t, server)
  unsubscribe('net.client.socket', onSocket)
  const gate = holdWrites(own!)
  let drained = 0
  carrier.onDrain = () => drained++
  t.ok(carrier.send(Buffer.alloc(100_000, Kind.record | RECORD_SEALED)))
  t.notOk(carrier.send(Buffer.alloc(200_000, Kind.record | RECORD_SEALED)), 'the socket is full')
  // Header and payload of the first leave; what is left is more than half of what may wait, and less than all of it.
  gate.pass(2)
  await until('the first is there', () => server.messages.length === 1)
  t.notOk(carrier.send(Buffer.of(Kind.beat)), 'a small one does not make it writable')
  t.equal(drained, 0)
  gate.open()
  await until('it drains', () => drained > 0)
})

t.test('closing lets what was sent arrive first', async (t) => {
  const server = await startServer(t)
  const carrier = await connect(t, server)
  let closed = 0
  carrier.onClosed = () => closed++
  carrier.send(Buffer.from('last words'))
  carrier.close()
  await until('it is closed', () => closed === 1)
  t.equal(server.messages[0]?.toString(), 'last words')
  t.equal(carrier.send(Buffer.from('more')), true, 'what comes after is dropped')
})

t.test('a certificate that nobody vouches for is no gateway', async (t) => {
  const server = https.createServer({ cert: CERTIFICATE, key: KEY })
  server.on('upgrade', () => t.fail('a request'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  t.match(await dial(`https://localhost:${String((server.address() as AddressInfo).port)}`), { reason: 'tls' })
})

// The contract of a carrier, run over every channel between its real ends, through a link that cuts bytes into tiny pieces as well as directly.
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import t, { type Test } from 'tap'
import type { Dial } from '../../agent/channel-dial.ts'
import { dialTcp } from '../../agent/tcp.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { acceptTcp } from '../../sidecar/tcp.ts'
import { WebSocketAcceptor } from '../../sidecar/websocket.ts'
import { type Link, type LinkOptions, startLink } from '../harness/link.ts'
import { until } from '../harness/until.ts'
import { Random } from '../protocol/simulation.ts'

const acceptor = new WebSocketAcceptor()
const HERE = { peer: 'test', worker: 0 }
const channels: Record<string, { dial: Dial; accept: (request: IncomingMessage, socket: Duplex, head: Buffer, then: (carrier: Carrier) => void) => void }> = {
  websocket: { dial: dialWebsocket, accept: (request, socket, head, then) => acceptor.accept(request, socket, head, HERE, then) },
  tcp: { dial: dialTcp, accept: (_request, socket, head, then) => acceptTcp(socket, head, HERE, then) },
}

/** One end, and what it was told. */
interface End {
  readonly carrier: Carrier
  readonly messages: Buffer[]
  readonly closed: string[]
  drains: number
}

function watch(carrier: Carrier): End {
  const end: End = { carrier, messages: [], closed: [], drains: 0 }
  carrier.onMessage = (message) => end.messages.push(Buffer.from(message))
  carrier.onDrain = () => end.drains++
  carrier.onClosed = (reason) => end.closed.push(reason)
  return end
}

async function join(t: Test, kind: string, link?: Omit<LinkOptions, 'target'>): Promise<{ agent: End; gateway: End; link: Link | undefined }> {
  const { dial, accept } = channels[kind]!
  let gateway: End | undefined
  const server = createServer()
  server.on('upgrade', (request, socket, head) => accept(request, socket, head, (carrier) => (gateway = watch(carrier))))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  let port = (server.address() as AddressInfo).port
  const relay = link === undefined ? undefined : await startLink(t, { target: port, ...link })
  if (relay !== undefined) port = relay.port
  const agent = await new Promise<End>((resolve, reject) => {
    dial({ gateway: `http://127.0.0.1:${String(port)}`, userAgent: 'test' }, (outcome) => ('reason' in outcome ? reject(new Error(outcome.detail)) : resolve(watch(outcome))))
  })
  await until('the gateway has it', () => gateway !== undefined)
  t.teardown(() => {
    agent.carrier.abort()
    gateway!.carrier.abort()
    server.closeAllConnections()
    server.close()
  })
  return { agent, gateway: gateway!, link: relay }
}

const SIZES = [1, 2, 3, 125, 126, 127, 4_096, 65_535, 65_536, MESSAGE_MAX_BYTES - 1, MESSAGE_MAX_BYTES]
const EVIL = [Buffer.from('\n'), Buffer.from('\r\n\r\n'), Buffer.alloc(3), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from('data: x\n\n'), Buffer.from([0xff, 0xfe, 0xc0, 0x80]), Buffer.from('\u2028💥')]

for (const kind of Object.keys(channels)) {
  t.test(`${kind}: it knows its kind`, async (t) => {
    const { agent, gateway } = await join(t, kind)
    t.equal(agent.carrier.kind, kind)
    t.equal(gateway.carrier.kind, kind)
  })

  for (const [how, link] of [['directly', undefined], ['in tiny pieces', { seed: 3, pieceMaxBytes: 700 }]] as const) {
    t.test(`${kind}: messages of every size and content arrive whole and in order, both ways at once, ${how}`, async (t) => {
      const { agent, gateway } = await join(t, kind, link)
      const random = new Random(1)
      const sent = [...SIZES.map((bytes) => random.bytes(bytes)), ...EVIL, ...Array.from({ length: 1_000 }, (_value, i) => Buffer.from(`message ${String(i)}`))]
      for (const message of sent) {
        agent.carrier.send(message)
        gateway.carrier.send(message)
      }
      await until('all are there', () => agent.messages.length === sent.length && gateway.messages.length === sent.length)
      for (const end of [agent, gateway]) t.ok(end.messages.every((message, i) => message.equals(sent[i]!)))
      t.same([agent.closed, gateway.closed], [[], []])
    })
  }

  t.test(`${kind}: close lets what was sent arrive, and each end is told once`, async (t) => {
    const { agent, gateway } = await join(t, kind)
    for (let i = 0; i < 50; i++) agent.carrier.send(Buffer.alloc(10_000, i))
    agent.carrier.close()
    agent.carrier.close()
    await until('both are closed', () => agent.closed.length > 0 && gateway.closed.length > 0)
    t.equal(gateway.messages.length, 50)
    agent.carrier.send(Buffer.of(1))
    agent.carrier.abort()
    t.same([agent.closed.length, gateway.closed.length], [1, 1])
  })

  t.test(`${kind}: abort and a cut amid a message are told at both ends, once`, async (t) => {
    for (const how of ['agent', 'gateway', 'link'] as const) {
      const { agent, gateway, link } = await join(t, kind, { seed: 5, pieceMaxBytes: 5_000 })
      for (let i = 0; i < 20; i++) agent.carrier.send(Buffer.alloc(20_000, 7))
      await until('some of it is there', () => gateway.messages.length > 0)
      if (how === 'link') link!.cut()
      else (how === 'agent' ? agent : gateway).carrier.abort()
      await until(`both are told (${how})`, () => agent.closed.length > 0 && gateway.closed.length > 0)
      t.same([agent.closed.length, gateway.closed.length], [1, 1])
      t.ok(gateway.messages.every((message) => message.length === 20_000), 'no half of a message')
    }
  })

  t.test(`${kind}: a full channel says so, takes heartbeats all the same, and tells when there is room`, async (t) => {
    for (const slow of ['agent', 'gateway'] as const) {
      const { agent, gateway, link } = await join(t, kind, { seed: 7 })
      const [sender, receiver] = slow === 'agent' ? [gateway, agent] : [agent, gateway]
      link!.stall()
      let sent = 0
      while (sender.carrier.send(Buffer.alloc(60_000)) && sent < 1_000) sent++
      t.ok(sent < 1_000, 'it says stop')
      t.equal(sender.carrier.send(Buffer.from('beat')), false, 'and goes on saying so')
      t.equal(sender.drains, 0)
      link!.resume()
      await until('there is room', () => sender.drains > 0)
      await until('all is there', () => receiver.messages.length === sent + 2)
      t.equal(receiver.messages.at(-1)!.toString(), 'beat')
      t.equal(sender.drains, 1)
    }
  })

  t.test(`${kind}: a message beyond the bound closes the channel`, async (t) => {
    const { agent, gateway } = await join(t, kind)
    agent.carrier.send(Buffer.alloc(MESSAGE_MAX_BYTES + 1))
    await until('it is closed', () => gateway.closed.length > 0)
    t.equal(gateway.messages.length, 0)
  })
}

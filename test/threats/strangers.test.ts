// Threat 15: what nobody has proved costs at most ten times its bytes in memory and five milliseconds a message, and is refused by its length before there is room for it.
import net from 'node:net'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { EventReader } from '../../agent/event-reader.ts'
import { admit } from '../../protocol/admit.ts'
import { ControlReader } from '../../protocol/control.ts'
import { errors } from '../../protocol/errors.ts'
import { HANDSHAKE_MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { MessageReader } from '../../protocol/message-reader.ts'
import { encodeHello, Kind } from '../../protocol/messages.ts'
import { clientStart, createServerSetup, decoy, ready } from '../../protocol/opaque.ts'
import { held } from '../fuzz/harness.ts'
import { startGateway } from '../harness/gateway.ts'
import { AT_ONCE, environment, Random, SETTINGS, SimulatedClock, Wire } from '../protocol/simulation.ts'

await ready

const MEMORY_FACTOR = 10
const MESSAGE_MAX_MS = 5
/** What a reader is itself. */
const READER_BYTES = 2_048
const COUNT = 300

/** Bytes that each of what `make` makes holds. */
async function each(make: () => unknown): Promise<number> {
  const before = await held()
  const kept = Array.from({ length: COUNT }, make)
  const bytes = ((await held()) - before) / COUNT
  if (kept.length !== COUNT) throw new Error('they are kept until here')
  return bytes
}

t.test('a message that is announced gets memory as it comes', async (t) => {
  for (const bytes of [4, 20, 300, 3_000]) {
    const holds = await each(() => {
      const reader = new MessageReader()
      // 68,000 bytes are said to follow.
      const came = Buffer.alloc(bytes)
      came.writeUIntBE(68_000, 0, 3)
      reader.push(came)
      if (reader.next() !== undefined) throw new Error('it is whole')
      return reader
    })
    t.ok(holds <= MEMORY_FACTOR * bytes + READER_BYTES, `${holds.toFixed(0)} bytes for ${String(bytes)}`)
  }
})

t.test('a line that comes byte by byte, each in a large buffer, holds none of these', async (t) => {
  const pieces = 20
  for (const [name, make] of Object.entries({ control: () => new ControlReader(), events: () => new EventReader(() => undefined) })) {
    const holds = await each(() => {
      const reader = make()
      for (let i = 0; i < pieces; i++) reader.push(Buffer.alloc(65_536, 0x64).subarray(0, 1))
      return reader
    })
    t.ok(holds <= MEMORY_FACTOR * pieces + READER_BYTES, `${name}: ${holds.toFixed(0)} bytes`)
  }
})

const SETUP = createServerSetup()
const DECOY = decoy(SETUP, 'nobody keeps it')

t.test('no message of a stranger takes five milliseconds', (t) => {
  const { ke1 } = clientStart('a guess')
  const hello = (key: Uint8Array, settings: number): Buffer => {
    const whole = encodeHello({ versionMin: 1, versionMax: 1, features: 0, agentId: 'a'.repeat(63), instance: Buffer.alloc(16), policies: ['always'], lanes: 1, settings: SETTINGS, ke1: Buffer.from(key) })
    return Buffer.concat([whole, Buffer.alloc(settings)])
  }
  const messages: Readonly<Record<string, Buffer>> = {
    'a right HELLO': hello(ke1, 0),
    'a HELLO with a key that is none': hello(Buffer.alloc(ke1.length, 0xff), 0),
    'a HELLO with too much behind it': hello(ke1, 3_000),
    'a HELLO of settings alone': Buffer.concat([hello(ke1, 0).subarray(0, 90), Buffer.alloc(HANDSHAKE_MESSAGE_MAX_BYTES - 90, 0x3f)]),
    'a CHANNEL_OPEN of no session': Buffer.concat([Buffer.of(Kind.channelOpen), Buffer.alloc(16), Buffer.of(1, 0), Buffer.alloc(16)]),
    'a CHANNEL_OPEN of 255 lanes': Buffer.concat([Buffer.of(Kind.channelOpen), Buffer.alloc(16), Buffer.of(1, 255), Buffer.alloc(1_000)]),
    'a PROOF before its time': Buffer.alloc(HANDSHAKE_MESSAGE_MAX_BYTES, Kind.proof),
    'a message that is too long': Buffer.alloc(68_608, Kind.hello),
  }
  const nothing = (): void => undefined
  for (const [name, message] of Object.entries(messages)) {
    const times = Array.from({ length: 12 }, () => {
      const clock = new SimulatedClock()
      const wire = new Wire(clock, () => 0)
      const gatekeeper = { serverSetup: SETUP, decoyRecord: DECOY, recordOf: () => null, terms: () => errors.revoked, sessionById: () => undefined, onSession: nothing, onChannel: nothing, onRefused: nothing }
      admit(wire.right, gatekeeper, AT_ONCE, environment(clock, new Random(1), 2 ** 20))
      const began = performance.now()
      wire.right.onMessage(message)
      return performance.now() - began
    })
    // The least of some: others had the processor, too.
    t.ok(Math.min(...times) < MESSAGE_MAX_MS, `${name}: ${Math.min(...times).toFixed(2)} ms`)
  }
  t.end()
})

t.test('twenty bytes of each bomb end their connection, and the gateway serves on', async (t) => {
  const port = await freePort()
  const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(port)}`, handshake_ms: 500 } })
  const upgrade = 'GET /_postern/channel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
  const bombs: Readonly<Record<string, string | Buffer>> = {
    'no length': Buffer.alloc(20),
    'a length beyond all': Buffer.from(`00${'ff'.repeat(19)}`, 'hex'),
    'a length and nothing': Buffer.from('010c00', 'hex'),
    'an unknown kind': Buffer.from('00000277aa', 'hex'),
    'a websocket frame of 2^63 bytes': Buffer.concat([Buffer.from(upgrade), Buffer.from('82ffffffffffffffffff00000000', 'hex')]),
    'a websocket frame in pieces without end': Buffer.concat([Buffer.from(upgrade), ...Array<Buffer>(200).fill(Buffer.from('00810000000001', 'hex'))]),
    'an HTTP/2 frame of 16 MiB': Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from('ffffff000000000001', 'hex')]),
    'a chunk of 2^60 bytes': 'POST /_postern/channel/open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n',
    'a head without an end': `GET /_postern/channel HTTP/1.1\r\nX: ${'a'.repeat(70_000)}`,
  }
  for (const [name, bomb] of Object.entries(bombs)) {
    const began = performance.now()
    await new Promise<void>((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => void socket.write(bomb))
      socket.on('error', () => undefined).once('close', () => resolve()).resume()
    })
    t.ok(performance.now() - began < 5_000, `${name}: ${(performance.now() - began).toFixed(0)} ms`)
  }
  t.match(await gateway.command('agents', 'list', '--json'), /\[\]/)
})

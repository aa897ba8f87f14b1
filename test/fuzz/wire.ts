// What the fuzzer is set on in protocol/: messages, records and heads, logins, lines of JSON, bodies of the http channels, join strings.
import { readFileSync } from 'node:fs'
import { admit } from '../../protocol/admit.ts'
import { ControlReader } from '../../protocol/control.ts'
import { type ErrorCode, errors } from '../../protocol/errors.ts'
import { decodeField, readBody } from '../../protocol/http-channel.ts'
import { decodeJoin, encodeJoin } from '../../protocol/join.ts'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { login } from '../../protocol/login.ts'
import { MessageReader } from '../../protocol/message-reader.ts'
import { decodeBeat, decodeChallenge, decodeChannelOpen, decodeClose, decodeHello, decodeLanes, decodeProof, decodeWelcomeInside, encodeHello, Kind } from '../../protocol/messages.ts'
import { clientStart, createServerSetup, decoy, publicKey, ready, register, serverStart } from '../../protocol/opaque.ts'
import { Reader } from '../../protocol/reader.ts'
import { headSize, readExtension, readFields, writeHead } from '../../protocol/head.ts'
import { encodeFigures, FiguresReader } from '../../protocol/monitor.ts'
import { encodeStatus, StatusReader } from '../../protocol/status.ts'
import { type Fields, NO_FIELDS } from '../../protocol/stream.ts'
import { opening, Recorder, REQUEST, SessionRecorder } from '../protocol/parties.ts'
import { AT_ONCE, environment, pair, type Random, SETTINGS, SimulatedClock, Wire } from '../protocol/simulation.ts'
import type { Target } from './harness.ts'

await ready

const vectors = <T>(file: string): T[] => JSON.parse(readFileSync(new URL(`../../protocol/vectors/${file}.json`, import.meta.url), 'utf8')) as T[]
const messages = vectors<{ hex: string }>('messages').map(({ hex }) => Buffer.from(hex, 'hex'))
const records = vectors<{ hex: string }>('records').map(({ hex }) => Buffer.from(hex, 'hex'))

/** `bytes` in pieces, as a network may cut them. */
export function* cut(bytes: Buffer, random: Random): Iterable<Buffer> {
  const most = 1 + random.below(random.below(2) === 0 ? 4 : 400)
  for (let at = 0; at < bytes.length; ) {
    const next = at + 1 + random.below(most)
    yield bytes.subarray(at, next)
    at = next
  }
}

function encodedHead(fields: Fields, extension: Fields): Buffer {
  const out = Buffer.alloc(headSize(fields, extension))
  writeHead(out, 0, fields, extension)
  return out
}

const DECODERS: Readonly<Record<number, (message: Buffer) => unknown>> = {
  [Kind.hello]: decodeHello,
  [Kind.challenge]: decodeChallenge,
  [Kind.proof]: decodeProof,
  [Kind.welcome]: (message) => decodeWelcomeInside(message.subarray(1)),
  [Kind.channelOpen]: decodeChannelOpen,
  [Kind.channelOpened]: decodeLanes,
  [Kind.attach]: decodeLanes,
  [Kind.attached]: decodeLanes,
  [Kind.beat]: decodeBeat,
  [Kind.close]: decodeClose,
}

const inside = messages[3]!

/** Both ends of a session with streams that frames may meet; `bytes` comes to the one, whose end is returned. */
function meet(bytes: Buffer, role: 'agent' | 'gateway'): string | undefined {
  const world = pair(1, { policy: 'never' })
  const recorder = new SessionRecorder((_opened, stream) => {
    stream.sendHead([':status', '200'], undefined, false)
    return new Recorder()
  })
  const [victim, attacker] = role === 'agent' ? [world.agent, world.wire.right] : [world.gateway, world.wire.left]
  victim.events = recorder
  victim.open(opening(), new Recorder())
  attacker.onMessage = () => undefined
  attacker.send(bytes)
  world.clock.run(() => false, 60)
  const end = recorder.events.find((event) => event.startsWith('end'))
  if (end !== undefined && victim.budget.usedBytes !== 0) throw new Error(`the budget is not given back: ${end}`)
  return end
}

const sessions: Target[] = (['agent', 'gateway'] as const).map((role) => ({
  name: `records that come to ${role === 'agent' ? 'an agent' : 'a gateway'}`,
  seeds: records,
  run: (bytes) => {
    if (bytes.length === 0 || bytes.length > MESSAGE_MAX_BYTES) return
    const end = meet(bytes, role)
    // A CLOSE of the peer's own ends it with whatever code that says.
    if (end !== undefined && !end.startsWith('end protocol_error') && bytes[0] !== Kind.close) throw new Error(end)
  },
}))

const SETUP = createServerSetup()
const RECORD = register(SETUP, 'agent-1', 'secret')
const DECOY = decoy(SETUP, 'nobody keeps it')
const { ke1 } = clientStart('secret')
const HELLO = encodeHello({ versionMin: 1, versionMax: 1, features: 0, agentId: 'agent-1', instance: Buffer.alloc(16, 1), policies: ['always'], lanes: 1, settings: SETTINGS, ke1: Buffer.from(ke1) })
const PROOF = Buffer.concat([Buffer.of(Kind.proof, 0x40, 64), Buffer.alloc(64, 7)])
const framed = (...all: readonly Buffer[]): Buffer => Buffer.concat(all.flatMap((one) => [Buffer.of(one.length >> 16, (one.length >> 8) & 255, one.length & 255), one]))

function admission(bytes: Buffer, random: Random): void {
  const clock = new SimulatedClock()
  const wire = new Wire(clock, () => 1)
  const refused: { code: ErrorCode; detail: string }[] = []
  const gatekeeper = {
    serverSetup: SETUP,
    decoyRecord: DECOY,
    recordOf: (id: string) => (id === 'agent-1' ? RECORD : null),
    terms: () => errors.revoked,
    sessionById: () => undefined,
    onSession: () => {
      throw new Error('a session')
    },
    onChannel: () => {
      throw new Error('a channel')
    },
    onRefused: (_carrier: unknown, code: ErrorCode, detail: string) => void refused.push({ code, detail }),
  }
  admit(wire.right, gatekeeper, AT_ONCE, environment(clock, random, 2 ** 20))
  const reader = new MessageReader()
  reader.push(bytes)
  for (let message = reader.next(); message instanceof Buffer; message = reader.next()) wire.left.send(message)
  clock.run(() => false, 60_000)
  if (refused.length !== 1) throw new Error(`${String(refused.length)} ends`)
  if (refused[0]!.code === errors.gateway_fault) throw new Error(refused[0]!.detail)
}

const { ke2 } = serverStart(SETUP, 'agent-1', RECORD, ke1)
const CHALLENGE = Buffer.concat([Buffer.of(Kind.challenge, 1, 0, 0x40 | (ke2.length >> 8), ke2.length & 255), ke2])

function beingAnswered(bytes: Buffer, random: Random): void {
  const clock = new SimulatedClock()
  const wire = new Wire(clock, () => 1)
  const told: string[] = []
  const options = { agentId: 'agent-1', secret: 'secret', gatewayKey: publicKey(SETUP), instance: Buffer.alloc(16), policies: ['always'] as const, lanes: 1, settings: SETTINGS }
  login(wire.left, options, environment(clock, random, 2 ** 20), (outcome) => told.push('code' in outcome ? `${outcome.code.name} ${outcome.detail}` : 'a session'))
  const reader = new MessageReader()
  reader.push(bytes)
  for (let message = reader.next(); message instanceof Buffer; message = reader.next()) wire.right.send(message)
  clock.run(() => false, 60_000)
  if (told.length !== 1) throw new Error(`${String(told.length)} outcomes`)
  if (/^(gateway_fault|a session)/.test(told[0]!) && !bytes.includes(Kind.close)) throw new Error(told[0])
}

export const WIRE: readonly Target[] = [
  { name: 'messages', seeds: messages.map((bytes, i) => (i === 3 ? Buffer.concat([Buffer.of(Kind.welcome), inside]) : bytes)), run: (bytes) => void DECODERS[bytes[0] ?? 0]?.(bytes) },
  {
    name: 'messages out of a stream of bytes',
    seeds: [framed(...messages), framed(...records), framed(Buffer.alloc(3_000, 5), Buffer.of(1))],
    run: (bytes, random) => {
      // However the bytes are cut, the same messages come out.
      const whole: string[] = []
      const inPieces: string[] = []
      for (const [pieces, into] of [[[bytes], whole], [cut(bytes, random), inPieces]] as const) {
        const reader = new MessageReader()
        read: for (const piece of pieces) {
          reader.push(piece)
          for (let message = reader.next(); message !== undefined; message = reader.next()) {
            into.push(typeof message === 'number' ? `length ${String(message)}` : message.toString('hex'))
            if (typeof message === 'number') break read
          }
        }
      }
      if (whole.join() !== inPieces.join()) throw new Error('other messages when cut')
    },
  },
  ...sessions,
  {
    name: 'heads',
    seeds: [encodedHead(REQUEST, ['k', 'v']), encodedHead([':status', '200', 'Content-Type', 'text/plain'], NO_FIELDS), encodedHead(NO_FIELDS, NO_FIELDS)],
    run: (bytes) => {
      const reader = new Reader().set(bytes)
      readFields(reader)
      readExtension(reader)
    },
  },
  { name: 'what a stranger says to a gateway', seeds: [framed(HELLO), framed(HELLO, PROOF), framed(Buffer.of(Kind.beat, 0, 0, 0, 0, 1), HELLO, PROOF), framed(messages[4]!)], run: admission },
  { name: 'what a stranger answers an agent', seeds: [framed(CHALLENGE), framed(CHALLENGE, Buffer.concat([Buffer.of(Kind.welcome), inside])), framed(messages.at(-1)!)], run: beingAnswered },
  {
    name: 'lines of a control stream',
    seeds: ['{"serves":["demo","other"]}\n', '{"services":[{"name":"demo","hosts":["demo.test"]}]}\n', '{"x":[1,{"y":null}]}\n{}\n'],
    run: (bytes, random) => {
      const reader = new ControlReader()
      for (const piece of cut(bytes, random)) reader.push(piece)
    },
  },
  {
    name: 'lines of a status stream',
    seeds: [Buffer.from(encodeStatus({ channels: [{ kind: 'websocket', way: 'direct', round_trip_ms: 1.5, lanes: [0, 1] }], exchanges: 3 }))],
    run: (bytes, random) => {
      const reader = new StatusReader()
      for (const piece of cut(bytes, random)) reader.push(piece)
    },
  },
  {
    name: 'lines of a monitor stream',
    seeds: [Buffer.from(encodeFigures({
      version: 'postern/1', node: 'v26', uptime_s: 1.5, rss_bytes: 1, heap_bytes: 1, cpu_s: 0.1, loop_delay_ms: 0, exchanges: 0, served: 7, failed: 1, sent_bytes: 9, received_bytes: 9,
    }))],
    run: (bytes, random) => {
      const reader = new FiguresReader()
      for (const piece of cut(bytes, random)) reader.push(piece)
    },
  },
  {
    name: 'bodies of http channels',
    seeds: vectors<{ body: string }>('http-channel').map(({ body }) => Buffer.from(body, 'hex')).filter(({ length }) => length > 0),
    run: (bytes) => {
      let count = 0
      readBody(bytes, (message) => {
        if (message.length === 0 || message.length > MESSAGE_MAX_BYTES) throw new Error(`a message of ${String(message.length)} bytes`)
        return ++count < 1_000
      })
    },
  },
  { name: 'the field of http channels', seeds: vectors<{ field: string }>('http-channel').map(({ field }) => field), run: (bytes) => void decodeField(bytes.toString('latin1')) },
  {
    name: 'join strings',
    seeds: [encodeJoin({ url: 'https://gateway.test/x', id: 'agent-1', secret: 'c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWU', key: 'a2V5' })],
    // It says what is wrong, and nothing of what it read.
    throws: ({ message }) => /^(a join string begins|the join string|the gateway URL)/.test(message) && !message.includes('c2VjcmV0'),
    run: (bytes) => void decodeJoin(bytes.toString('latin1')),
  },
]

// The test vectors beside SPEC.md: what this code writes is what they say, and what they say is read whole, cut short and with bytes behind it.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { ChannelProof } from '../../protocol/channel-proof.ts'
import { errors } from '../../protocol/errors.ts'
import { BODY_MAX_BYTES, decodeField, encodeField, hashOf, readBody, WaitingMessages } from '../../protocol/http-channel.ts'
import { decodeJoin, encodeJoin } from '../../protocol/join.ts'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import {
  checkMac,
  decodeBeat,
  decodeChallenge,
  decodeChannelOpen,
  decodeClose,
  decodeHello,
  decodeLanes,
  decodeProof,
  decodeWelcomeInside,
  Direction,
  encodeBeat,
  encodeChallenge,
  encodeChannelOpen,
  encodeClose,
  encodeHello,
  encodeLanes,
  encodeMove,
  encodeProof,
  encodeWelcomeInside,
  Kind,
  type MacScope,
} from '../../protocol/messages.ts'
import { Reader } from '../../protocol/reader.ts'
import { channelKey, LaneSeal, sessionSecret, welcomeKey } from '../../protocol/seal.ts'
import type { Session } from '../../protocol/session.ts'
import { NO_FIELDS, StreamKind } from '../../protocol/stream.ts'
import { varintSize, writeVarint } from '../../protocol/varint.ts'
import { opening, Recorder, SessionRecorder } from './parties.ts'
import { pair } from './simulation.ts'

const vectors = <T>(file: string): T => JSON.parse(readFileSync(new URL(`../../protocol/vectors/${file}.json`, import.meta.url), 'utf8')) as T
const hex = (text: string): Buffer => Buffer.from(text, 'hex')
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value, (_key, held: unknown) => (isBytes(held) ? Buffer.from(held.data).toString('hex') : held)))
const isBytes = (value: unknown): value is { type: 'Buffer'; data: number[] } => typeof value === 'object' && value !== null && 'type' in value && value.type === 'Buffer'

t.test('§1 varints', (t) => {
  for (const { value, hex: text, shortest } of vectors<{ value: number; hex: string; shortest: boolean }[]>('varint')) {
    const reader = new Reader().set(hex(text))
    t.equal(reader.varint(), value, text)
    t.equal(reader.left, 0)
    for (let cut = 0; cut < hex(text).length; cut++) t.throws(() => new Reader().set(hex(text), 0, cut).varint(), /too early/)
    if (!shortest) continue
    const out = Buffer.alloc(varintSize(value))
    writeVarint(out, 0, value)
    t.equal(out.toString('hex'), text)
  }
  t.throws(() => new Reader().set(hex('e000000000000000')).varint(), /2\^53/)
  t.end()
})

const SETTINGS = { firstCredit: 65_536, maxStreams: 4_096 }
const WELCOME = {
  sessionId: hex('000102030405060708090a0b0c0d0e0f'),
  lanes: 2,
  policy: 'never' as const,
  settings: SETTINGS,
  terms: { services: [{ name: 'demo', hosts: ['demo.localhost'] }], heartbeat_ms: 10_000, dead_after_ms: 25_000, grace_ms: 30_000, channels: ['websocket'] },
}
const SET = { channels: ['websocket', 'sse'], connections: 2, tls: { server_name: 'edge.example', min_version: '1.3', pins: ['11'.repeat(32)] } }
const HELLO = { versionMin: 1, versionMax: 1, features: 0, agentId: 'agent-1', instance: hex('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff'), policies: ['always', 'never'] as const, lanes: 4, settings: SETTINGS, ke1: hex('aabbcc') }
const SECRET = hex('11'.repeat(32))
const SCOPE: MacScope = { channelKey: channelKey(SECRET), direction: Direction.toGateway, sessionId: WELCOME.sessionId, channelNumber: 3 }
const MARKS = [
  { lane: 0, attachCount: 4, expects: 1_000 },
  { lane: 1, attachCount: 1, expects: 0 },
]

const messages: Record<string, { encode: () => Buffer; decode: (message: Buffer) => unknown; closed: boolean }> = {
  HELLO: { encode: () => encodeHello(HELLO), decode: decodeHello, closed: true },
  CHALLENGE: { encode: () => encodeChallenge(1, 0, hex('0102')), decode: decodeChallenge, closed: true },
  PROOF: { encode: () => encodeProof(hex('0304')), decode: decodeProof, closed: true },
  'inside of WELCOME': { encode: () => encodeWelcomeInside(WELCOME), decode: decodeWelcomeInside, closed: false },
  'inside of WELCOME, with what is set': { encode: () => encodeWelcomeInside({ ...WELCOME, terms: { ...WELCOME.terms, settings: SET } }), decode: decodeWelcomeInside, closed: false },
  CHANNEL_OPEN: { encode: () => encodeChannelOpen(SCOPE, MARKS), decode: decodeChannelOpen, closed: true },
  CHANNEL_OPENED: { encode: () => encodeLanes(Kind.channelOpened, { ...SCOPE, direction: Direction.toAgent }, MARKS), decode: decodeLanes, closed: true },
  ATTACH: { encode: () => encodeLanes(Kind.attach, SCOPE, MARKS), decode: decodeLanes, closed: true },
  BEAT: { encode: () => encodeBeat(false, 7), decode: decodeBeat, closed: true },
  'BEAT answered': { encode: () => encodeBeat(true, 7), decode: decodeBeat, closed: true },
  MOVE: { encode: () => encodeMove(errors.gateway_leaving), decode: () => null, closed: false },
  CLOSE: { encode: () => encodeClose(errors.revoked, 'why'), decode: (message) => ({ code: decodeClose(message).code.name, detail: decodeClose(message).detail }), closed: false },
}

t.test('§2, §3, §5 messages', (t) => {
  const known = vectors<{ name: string; hex: string; means: unknown }[]>('messages')
  t.same(known.map(({ name }) => name), Object.keys(messages))
  for (const { name, hex: text, means } of known) {
    const { encode, decode, closed } = messages[name]!
    t.equal(encode().toString('hex'), text, `${name} is written so`)
    t.same(plain(decode(hex(text))), means, `${name} is read so`)
    if (!closed) continue
    for (let cut = 1; cut < hex(text).length; cut++) t.throws(() => decode(hex(text).subarray(0, cut)), /protocol_error/, `${name} cut at ${String(cut)}`)
    t.throws(() => decode(Buffer.concat([hex(text), hex('00')])), /bytes too many/, `${name} with a byte behind it`)
  }
  for (const name of ['CHANNEL_OPEN', 'ATTACH']) {
    const message = hex(known.find((vector) => vector.name === name)!.hex)
    t.ok(checkMac(SCOPE, message))
    t.notOk(checkMac({ ...SCOPE, channelNumber: 4 }, message))
    t.notOk(checkMac({ ...SCOPE, direction: Direction.toAgent }, message))
  }
  t.end()
})

t.test('§3.1 the join string', (t) => {
  for (const { join, word } of vectors<{ join: { url: string; id: string; secret: string; key: string }; word: string }[]>('join')) {
    t.equal(encodeJoin(join), word)
    t.same(decodeJoin(word), join)
    t.same(decodeJoin(` ${word}\n`), join, 'white space around it does no harm')
    for (const bad of ['', 'pj1_', word.slice(0, -9), `x${word}`, word.replace('pj1_', 'pj2_')]) t.throws(() => decodeJoin(bad), /join string/)
  }
  t.end()
})

t.test('§4, §6.2 keys and sealed records', (t) => {
  const { opaque_key: opaqueKey, messages: four, welcome_key: welcome, session_secret: secret, channel_key: channel, records } = vectors<{
    opaque_key: string
    messages: string[]
    welcome_key: string
    session_secret: string
    channel_key: string
    records: { direction: 0 | 1; lane: number; number: number; plain: string; sealed: string }[]
  }>('keys')
  const transcript = four.map(hex)
  t.equal(welcomeKey(hex(opaqueKey), transcript.slice(0, 3)).toString('hex'), welcome)
  t.equal(sessionSecret(hex(opaqueKey), transcript).toString('hex'), secret)
  t.equal(channelKey(hex(secret)).toString('hex'), channel)
  for (const { direction, lane, number, plain: text, sealed } of records) {
    const out = Buffer.alloc(1_000)
    const end = new LaneSeal(hex(secret), direction, lane).seal(number, hex(text), out, 0)
    t.equal(out.subarray(0, end).toString('hex'), sealed, `lane ${String(lane)}, record ${String(number)}`)
    const opener = (): LaneSeal => new LaneSeal(hex(secret), direction, lane)
    t.equal(opener().open(number, hex(sealed)).toString('hex'), text)
    for (let at = 0; at < hex(sealed).length; at++) {
      const changed = hex(sealed)
      changed[at] = changed[at]! ^ 1
      t.throws(() => opener().open(number, changed), /changed on the way/)
    }
    t.throws(() => opener().open(number + 1, hex(sealed)), /changed on the way/)
    t.throws(() => new LaneSeal(hex(secret), direction === 0 ? 1 : 0, lane).open(number, hex(sealed)), /changed on the way/)
    t.throws(() => opener().open(number, hex(sealed).subarray(0, 15)), /without its tag/)
  }
  t.end()
})

/** What a gateway does to make each record, by the vector's name. */
const scenes: Record<string, (gateway: Session) => void> = {
  'a request without a body': (gateway) => void gateway.open(opening({ ended: true }), new Recorder()),
  'a request with a small body': (gateway) => void gateway.open(opening({ body: Buffer.from('hello'), ended: true }), new Recorder()),
  'a request whose body follows': (gateway) => {
    const stream = gateway.open(opening({ fields: [':method', 'PUT', ':scheme', 'https', ':authority', 'a.example', ':path', '/x?y', 'Accept', '*/*', 'accept', 'text/html'], extension: ['k', 'v'] }), new Recorder())!
    stream.write(Buffer.from('body'))
    stream.end(['X-Sum', '42'])
  },
  'a stream of kind tcp': (gateway) => void gateway.open(opening({ kind: StreamKind.tcp, fields: NO_FIELDS, service: 'db' }), new Recorder()),
  'STOP and RESET': (gateway) => {
    gateway.open(opening({ ended: true }), new Recorder())!.stop(errors.cancelled)
    gateway.open(opening(), new Recorder())!.reset(errors.cancelled, true)
  },
}

t.test('§6, §8, §9, §10 records and frames', (t) => {
  const known = vectors<{ name: string; hex: string; events: string[] }[]>('records')
  t.same(known.map(({ name }) => name), Object.keys(scenes))
  for (const { name, hex: text, events } of known) {
    const maker = pair(1, { policy: 'never' })
    scenes[name]!(maker.gateway)
    maker.clock.run(() => maker.wire.right.sent.length > 0)
    t.equal(maker.wire.right.sent[0]!.toString('hex'), text, `${name} is written so`)
    t.same(read(hex(text)), events, `${name} is read so`)
    for (let cut = 2; cut < hex(text).length; cut++) {
      const outcome = read(hex(text).subarray(0, cut))
      t.ok(events.join().startsWith(outcome.filter((event) => !event.startsWith('end protocol')).join()), `${name} cut at ${String(cut)} means the same up to there`)
    }
  }
  t.end()
})

/** What an agent is told by one record. */
function read(record: Buffer): string[] {
  const world = pair(1, { policy: 'never' })
  const events: string[] = []
  const sessionEvents = new SessionRecorder((opened, stream) => {
    events.push(`open ${String(stream.id)} kind ${String(opened.kind)} ${opened.uuid} ${opened.service} [${opened.fields.join('|')}] [${opened.extension.join('|')}] ${Buffer.from(opened.body).toString('hex')}${opened.ended ? ' ended' : ''}`)
    const owner = new Recorder()
    owner.onData = (chunk) => void events.push(`data ${Buffer.from(chunk).toString('hex')}`)
    owner.onEnd = (trailers) => void events.push(`end [${trailers.join('|')}]`)
    owner.onStop = (code) => void events.push(`stop ${code.name}`)
    owner.onReset = (code, begun) => void events.push(`reset ${code.name} ${begun ? 'begun' : 'not begun'}`)
    return owner
  })
  world.agent.events = sessionEvents
  world.wire.right.onMessage = () => undefined
  world.wire.right.send(record)
  world.clock.run(() => false, 100)
  const broken = sessionEvents.events.filter((event) => event.startsWith('end'))
  // A session that ends resets what was open: that is not in the record.
  return broken.length > 0 ? [...events.filter((event) => !event.startsWith('reset protocol_error')), broken[0]!] : events
}

t.test('§14 bodies, MACs and fields of http channels', (t) => {
  const known = vectors<{ method: string; counter: number; messages: string[]; body: string; mac: string; field: string }[]>('http-channel')
  const proof = new ChannelProof(SCOPE.channelKey, SCOPE.sessionId, SCOPE.channelNumber)
  for (const { method, counter, messages: said, body: text, mac: proved, field: word } of known) {
    const body = hex(text)
    const field = { id: HELLO.instance.toString('hex'), counter, bodyHash: hashOf(body), mac: hex(proved) }
    t.equal(encodeField(field), word)
    t.same(decodeField(word), field)
    for (let cut = 0; cut < word.length; cut++) if (!word.slice(0, cut).endsWith(';') || cut < 100) t.equal(decodeField(word.slice(0, cut)), undefined, `cut at ${String(cut)}`)
    for (const bad of [`${word}0`, ` ${word}`, `${word}, ${word}`, word.toUpperCase(), word.replace(';', ';0'), word.replace(/;\d+;/, ';9007199254740992;'), [word]]) t.equal(decodeField(bad), undefined)
    if (proved !== '') {
      t.equal(proof.mac(method, counter, field.bodyHash).toString('hex'), proved)
      t.ok(proof.check(method, counter, field.bodyHash, field.mac))
      t.notOk(proof.check(method === 'GET' ? 'POST' : 'GET', counter, field.bodyHash, field.mac))
      t.notOk(proof.check(method, counter - 1, field.bodyHash, field.mac))
      t.notOk(proof.check(method, counter, hashOf(Buffer.of(1)), field.mac))
      t.notOk(proof.check(method, counter, field.bodyHash, Buffer.alloc(0)))
      t.notOk(new ChannelProof(SCOPE.channelKey, SCOPE.sessionId, SCOPE.channelNumber + 1).check(method, counter, field.bodyHash, field.mac))
    }
    if (said.length === 0) continue
    t.equal(bodyOf(said).toString('hex'), text)
    const read: string[] = []
    const deliver = (message: Buffer): boolean => read.push(message.toString('hex')) > 0
    t.equal(readBody(body, deliver), undefined)
    t.same(read, said)
    for (let cut = 0; cut < body.length; cut++) {
      read.length = 0
      const wrong = readBody(body.subarray(0, cut), deliver)
      t.same(read, said.slice(0, read.length), `cut at ${String(cut)}`)
      t.equal(wrong === undefined, read.length > 0 && body.subarray(0, cut).equals(bodyOf(read)), `cut at ${String(cut)}`)
    }
  }
  t.match(readBody(hex('000000'), () => true), /a message of 0 bytes/)
  t.match(readBody(hex('010c01'), () => true), /a message of 68609 bytes/)
  t.end()
})

t.test('§14 a body holds as many messages as fit, and the rest wait', (t) => {
  const waiting = new WaitingMessages()
  const messages = Array.from({ length: 40 }, (_value, i) => Buffer.alloc(MESSAGE_MAX_BYTES, i))
  for (const message of messages) waiting.add(message)
  const read: Buffer[] = []
  for (let bodies = 1; waiting.count > 0; bodies++) {
    const body = waiting.take()
    t.ok(body.length <= BODY_MAX_BYTES && (waiting.count === 0 || body.length + MESSAGE_MAX_BYTES + 3 > BODY_MAX_BYTES), `body ${String(bodies)}`)
    readBody(body, (message) => read.push(message) > 0)
  }
  t.ok(read.length === messages.length && read.every((message, i) => message.equals(messages[i]!)))
  t.end()
})

function bodyOf(messages: readonly string[]): Buffer {
  const waiting = new WaitingMessages()
  for (const message of messages) waiting.add(hex(message))
  return waiting.take()
}

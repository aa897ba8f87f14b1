// The messages of a channel: what each is made of, written and read (SPEC §2, §3, §5).
import { createHmac, timingSafeEqual } from 'node:crypto'
import { isService, isSettings, type PushedSettings } from './control.ts'
import { type ErrorCode, errorByNumber, errors, PosternError } from './errors.ts'
import { AGENT_ID_MAX_BYTES, LANES_MAX_COUNT } from './limits.ts'
import { Reader } from './reader.ts'
import { varintSize, writeVarint } from './varint.ts'

export const Kind = {
  hello: 0x01,
  challenge: 0x02,
  proof: 0x03,
  welcome: 0x04,
  channelOpen: 0x05,
  channelOpened: 0x06,
  attach: 0x07,
  attached: 0x08,
  record: 0x10,
  beat: 0x20,
  move: 0x21,
  close: 0x2f,
} as const

/** Bits in a RECORD's kind. */
export const RECORD_NUMBERED = 1
export const RECORD_SEALED = 2

export const VERSION = 1
export const INSTANCE_ID_BYTES = 16
export const SESSION_ID_BYTES = 16
export const MAC_BYTES = 16
const CLOSE_DETAIL_MAX_BYTES = 256
/** Its MAC covers it as u32. */
const CHANNEL_NUMBER_MAX = 2 ** 32 - 1

export const Direction = { toGateway: 0, toAgent: 1 } as const
export type Direction = (typeof Direction)[keyof typeof Direction]

export type Policy = 'always' | 'never'

/** What a sender says it takes (SPEC §9.2). */
export interface Settings {
  readonly firstCredit: number
  readonly maxStreams: number
}
const SettingKey = { firstCredit: 1, maxStreams: 2 } as const

export interface Hello {
  readonly versionMin: number
  readonly versionMax: number
  readonly features: number
  readonly agentId: string
  readonly instance: Buffer
  readonly policies: readonly Policy[]
  readonly lanes: number
  readonly settings: Settings
  readonly ke1: Buffer
}

/** A lane as ATTACH and its kin name it. `expects`: the next record its sender wants. */
export interface LaneMark {
  readonly lane: number
  readonly attachCount: number
  readonly expects: number
}

/** The terms a session begins with: the open part of WELCOME (SPEC §3.2). */
export interface Terms {
  readonly services: readonly { readonly name: string; readonly hosts: readonly string[] }[]
  readonly heartbeat_ms: number
  readonly dead_after_ms: number
  readonly grace_ms: number
  readonly channels: readonly string[]
  /** What is set for the agent, as the control stream says it (SPEC §10.1); a gateway need not say it here. */
  readonly settings?: PushedSettings | undefined
}

export interface Welcome {
  readonly sessionId: Buffer
  readonly lanes: number
  readonly policy: Policy
  readonly settings: Settings
  readonly terms: Terms
}

const varint = (value: number): Buffer => {
  const out = Buffer.allocUnsafe(varintSize(value))
  writeVarint(out, 0, value)
  return out
}
const str8 = (text: string): Buffer => {
  const raw = Buffer.from(text, 'utf8')
  return Buffer.concat([Buffer.of(raw.length), raw])
}
const bytes = (raw: Uint8Array): Buffer => Buffer.concat([varint(raw.length), raw])

export function encodeSettings(settings: Settings): Buffer {
  return Buffer.concat([2, SettingKey.firstCredit, settings.firstCredit, SettingKey.maxStreams, settings.maxStreams].map(varint))
}

/** Reads settings over `base`: what is not named stays as it was. */
export function readSettings(reader: Reader, base: Settings): Settings {
  let { firstCredit, maxStreams } = base
  for (let left = reader.varint(); left > 0; left--) {
    const key = reader.varint()
    const value = reader.varint()
    if (key === SettingKey.firstCredit) firstCredit = value
    else if (key === SettingKey.maxStreams) maxStreams = value
  }
  return { firstCredit, maxStreams }
}

const DEFAULT_SETTINGS: Settings = { firstCredit: 65_536, maxStreams: 4_096 }

export function encodeHello(hello: Hello): Buffer {
  const policies = (hello.policies.includes('always') ? 1 : 0) | (hello.policies.includes('never') ? 2 : 0)
  return Buffer.concat([
    Buffer.of(Kind.hello, hello.versionMin, hello.versionMax),
    varint(hello.features),
    str8(hello.agentId),
    hello.instance,
    Buffer.of(policies),
    varint(hello.lanes),
    encodeSettings(hello.settings),
    bytes(hello.ke1),
  ])
}

export function decodeHello(message: Buffer): Hello {
  const reader = new Reader().set(message, 1)
  const versionMin = reader.u8()
  const versionMax = reader.u8()
  const features = reader.varint()
  const idLength = reader.u8()
  if (idLength === 0 || idLength > AGENT_ID_MAX_BYTES) throw new PosternError(errors.protocol_error, 'an agent id of a wrong length')
  const agentId = reader.utf8(idLength)
  const instance = reader.take(INSTANCE_ID_BYTES)
  const bits = reader.u8()
  const policies: Policy[] = []
  if ((bits & 1) !== 0) policies.push('always')
  if ((bits & 2) !== 0) policies.push('never')
  const lanes = reader.varint()
  if (lanes < 1) throw new PosternError(errors.protocol_error, 'no lane is wished')
  const settings = readSettings(reader, DEFAULT_SETTINGS)
  const ke1 = reader.take(reader.varint())
  mustEnd(reader)
  return { versionMin, versionMax, features, agentId, instance, policies, lanes, settings, ke1 }
}

export function encodeChallenge(version: number, features: number, ke2: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(Kind.challenge, version), varint(features), bytes(ke2)])
}

export function decodeChallenge(message: Buffer): { version: number; features: number; ke2: Buffer } {
  const reader = new Reader().set(message, 1)
  const version = reader.u8()
  const features = reader.varint()
  const ke2 = reader.take(reader.varint())
  mustEnd(reader)
  return { version, features, ke2 }
}

export function encodeProof(ke3: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(Kind.proof), bytes(ke3)])
}

export function decodeProof(message: Buffer): { ke3: Buffer } {
  const reader = new Reader().set(message, 1)
  const ke3 = reader.take(reader.varint())
  mustEnd(reader)
  return { ke3 }
}

/** The plain inside of WELCOME; sealing it and the kind byte before it are the handshake's. */
export function encodeWelcomeInside(welcome: Welcome): Buffer {
  return Buffer.concat([
    welcome.sessionId,
    varint(welcome.lanes),
    Buffer.of(welcome.policy === 'always' ? 0 : 1),
    encodeSettings(welcome.settings),
    Buffer.from(JSON.stringify(welcome.terms), 'utf8'),
  ])
}

export function decodeWelcomeInside(inside: Buffer): Welcome {
  const reader = new Reader().set(inside)
  const sessionId = reader.take(SESSION_ID_BYTES)
  const lanes = reader.varint()
  if (lanes < 1 || lanes > LANES_MAX_COUNT) throw new PosternError(errors.protocol_error, `${String(lanes)} lanes`)
  const policy: Policy = reader.u8() === 0 ? 'always' : 'never'
  const settings = readSettings(reader, DEFAULT_SETTINGS)
  return { sessionId, lanes, policy, settings, terms: readTerms(reader.utf8(reader.left)) }
}

// Of the members only `services` and `settings` are needed as they are; the times are held to bounds where they are used.
function readTerms(text: string): Terms {
  try {
    const terms = JSON.parse(text) as Terms
    if (Array.isArray(terms.services) && terms.services.every(isService) && (terms.settings === undefined || isSettings(terms.settings))) return terms
  } catch {
    // No JSON, or null: no terms either.
  }
  throw new PosternError(errors.protocol_error, 'a welcome without terms')
}

/** What a MAC of §5 covers beside the message itself. */
export interface MacScope {
  readonly channelKey: Buffer
  readonly direction: Direction
  readonly sessionId: Buffer
  readonly channelNumber: number
}

function mac(scope: MacScope, covered: Buffer): Buffer {
  const number = Buffer.alloc(4)
  number.writeUInt32BE(scope.channelNumber)
  const full = createHmac('sha256', scope.channelKey).update(Buffer.of(scope.direction)).update(scope.sessionId).update(number).update(covered).digest()
  return full.subarray(0, MAC_BYTES)
}

function laneList(marks: readonly LaneMark[]): Buffer {
  return Buffer.concat([Buffer.of(marks.length), ...marks.flatMap((mark) => [varint(mark.lane), varint(mark.attachCount), varint(mark.expects)])])
}

function readLaneList(reader: Reader): LaneMark[] {
  const count = reader.u8()
  if (count > LANES_MAX_COUNT) throw new PosternError(errors.protocol_error, `${String(count)} lanes in a list`)
  const marks: LaneMark[] = []
  for (let i = 0; i < count; i++) marks.push({ lane: reader.varint(), attachCount: reader.varint(), expects: reader.varint() })
  return marks
}

export function encodeChannelOpen(scope: MacScope, marks: readonly LaneMark[]): Buffer {
  const covered = Buffer.concat([Buffer.of(Kind.channelOpen), scope.sessionId, varint(scope.channelNumber), laneList(marks)])
  return Buffer.concat([covered, mac(scope, covered)])
}

/** Reads a CHANNEL_OPEN without trusting it: the session must be looked up before {@link checkMac} can tell. */
export function decodeChannelOpen(message: Buffer): { sessionId: Buffer; channelNumber: number; marks: LaneMark[] } {
  const reader = new Reader().set(message, 1)
  const sessionId = reader.take(SESSION_ID_BYTES)
  const channelNumber = reader.varint()
  if (channelNumber > CHANNEL_NUMBER_MAX) throw new PosternError(errors.protocol_error, `a channel number of ${String(channelNumber)}`)
  const marks = readLaneList(reader)
  reader.take(MAC_BYTES)
  mustEnd(reader)
  return { sessionId, channelNumber, marks }
}

/** CHANNEL_OPENED, ATTACH or ATTACHED. */
export function encodeLanes(kind: number, scope: MacScope, marks: readonly LaneMark[]): Buffer {
  const covered = Buffer.concat([Buffer.of(kind), laneList(marks)])
  return Buffer.concat([covered, mac(scope, covered)])
}

export function decodeLanes(message: Buffer): LaneMark[] {
  const reader = new Reader().set(message, 1)
  const marks = readLaneList(reader)
  reader.take(MAC_BYTES)
  mustEnd(reader)
  return marks
}

/** Is the MAC at the end of `message` right? */
export function checkMac(scope: MacScope, message: Buffer): boolean {
  const covered = message.subarray(0, message.length - MAC_BYTES)
  return timingSafeEqual(mac(scope, covered), message.subarray(message.length - MAC_BYTES))
}

export function encodeBeat(answer: boolean, number: number): Buffer {
  const out = Buffer.allocUnsafe(6)
  out[0] = Kind.beat
  out[1] = answer ? 1 : 0
  out.writeUInt32BE(number, 2)
  return out
}

export function decodeBeat(message: Buffer): { answer: boolean; number: number } {
  const reader = new Reader().set(message, 1)
  const answer = reader.u8() === 1
  const number = reader.u32()
  mustEnd(reader)
  return { answer, number }
}

export function encodeMove(code: ErrorCode): Buffer {
  return Buffer.concat([Buffer.of(Kind.move), varint(code.number)])
}

export function encodeClose(code: ErrorCode, detail: string): Buffer {
  return Buffer.concat([Buffer.of(Kind.close), varint(code.number), Buffer.from(detail, 'utf8').subarray(0, CLOSE_DETAIL_MAX_BYTES)])
}

export function decodeClose(message: Buffer): { code: ErrorCode; detail: string } {
  const reader = new Reader().set(message, 1)
  const code = errorByNumber(reader.varint())
  return { code, detail: reader.utf8(Math.min(reader.left, CLOSE_DETAIL_MAX_BYTES)) }
}

function mustEnd(reader: Reader): void {
  if (reader.left !== 0) throw new PosternError(errors.protocol_error, `${String(reader.left)} bytes too many in a message`)
}

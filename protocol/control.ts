// What is said on the control stream: JSON, one message a line (SPEC §10.1).
import { errors, PosternError } from './errors.ts'
import { encodeLine, isWhole, JsonLines } from './json-lines.ts'

/** What an agent says of its services is longer than what it is told of them (twice their names), and reasons come on top. */
export const CONTROL_LINE_MAX_BYTES = 1_048_576
/** Reasons are for people: whoever serves thousands of services reads of so many. */
export const REFUSED_MAX_COUNT = 256
export const REASON_MAX_CHARACTERS = 300

/** How an agent finds out whether an origin is well. */
export interface HealthCheck {
  readonly kind: 'http' | 'tcp'
  readonly path?: string | undefined
  readonly interval_ms?: number | undefined
  readonly timeout_ms?: number | undefined
  /** Checks in a row that fail. */
  readonly unhealthy_after?: number | undefined
  /** Checks in a row that succeed. */
  readonly healthy_after?: number | undefined
}

export interface ServedService {
  readonly name: string
  readonly hosts: readonly string[]
  /** A target to suggest, as one is typed. */
  readonly origin?: string | undefined
  readonly health?: HealthCheck | undefined
}

/** A service or a setting that the agent does not take from its gateway, and why. */
export interface RefusedPush {
  readonly what: string
  readonly reason: string
}

/** What a gateway asks of TLS beside what the agent asks itself, and a certificate for it to show. */
export interface PushedTls {
  /** PEM: one of these is to have signed the gateway's certificate. */
  readonly ca?: string | undefined
  /** The gateway's certificate is to be good for this name too. */
  readonly server_name?: string | undefined
  /** SHA-256 of public keys, base64 or hexadecimal: the agent says if the gateway's is none of them. */
  readonly pins?: readonly string[] | undefined
  /** `1.2` or `1.3`. */
  readonly min_version?: string | undefined
  /** PEM; these two go together. */
  readonly client_cert?: string | undefined
  readonly client_key?: string | undefined
}

/** What a gateway asks of an agent's ways; those that the agent decides itself it keeps. */
export interface PushedSettings {
  readonly channels?: readonly string[] | undefined
  readonly connections?: number | undefined
  readonly tls?: PushedTls | undefined
  /** These count at both ends of a session at once. */
  readonly heartbeat_ms?: number | undefined
  readonly dead_after_ms?: number | undefined
  readonly grace_ms?: number | undefined
  /** `never`, where the agent takes that: agreed on at a login. */
  readonly encryption?: string | undefined
}

/** Agent: which services it serves from now on, which of their origins are not well, and what of the gateway's word it does not take. */
export interface AgentSays {
  readonly serves: readonly string[]
  readonly unhealthy: readonly string[]
  readonly refused: readonly RefusedPush[]
}

/** Gateway: which services the agent may serve from now on, or what is set for it. */
export type GatewaySays = { readonly services: readonly ServedService[] } | { readonly settings: PushedSettings }

/** Gateway: so many messages of the agent count from now on, visitors' routes included, and so many streams the gateway had opened in the session when the last of them did. */
export interface Taken {
  readonly taken: number
  readonly opened: number
}

export type ControlMessage = AgentSays | GatewaySays | Taken

export const encodeControl = (message: ControlMessage): Uint8Array => encodeLine(message)

/** Cuts what comes over the stream into messages. Members and messages it does not know are passed over. */
export class ControlReader extends JsonLines<ControlMessage> {
  constructor() {
    super(CONTROL_LINE_MAX_BYTES, read)
  }
}

function read(line: object): ControlMessage | undefined {
  if ('serves' in line) {
    const { serves, unhealthy = [], refused = [] } = line as Partial<Record<string, unknown>>
    if (!isStrings(serves) || !isStrings(unhealthy)) throw wrong('`serves` or `unhealthy` is not a list of names')
    if (!Array.isArray(refused) || refused.length > REFUSED_MAX_COUNT || !refused.every(isRefused)) throw wrong('`refused` is not a list of what and why')
    return { serves, unhealthy, refused }
  }
  if ('services' in line) {
    if (!Array.isArray(line.services) || !line.services.every(isService)) throw wrong('`services` is not a list of services')
    return { services: line.services }
  }
  if ('settings' in line) {
    if (!isSettings(line.settings)) throw wrong('`settings` are not of their form')
    return { settings: line.settings }
  }
  if ('taken' in line) {
    const { taken, opened } = line as Partial<Record<string, unknown>>
    if (!isWhole(taken) || !isWhole(opened)) throw wrong('`taken` or `opened` is no number of something')
    return { taken, opened }
  }
  return undefined
}

const wrong = (detail: string): PosternError => new PosternError(errors.protocol_error, detail)

type Members = Partial<Record<string, unknown>>

const isObject = (value: unknown): value is Members => typeof value === 'object' && value !== null && !Array.isArray(value)
const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every((entry) => typeof entry === 'string')
const isCount = (value: unknown): boolean => value === undefined || (Number.isSafeInteger(value) && (value as number) > 0)
const isTextOrNone = (value: unknown): boolean => value === undefined || typeof value === 'string'

const isRefused = (value: unknown): value is RefusedPush => {
  return isObject(value) && typeof value.what === 'string' && typeof value.reason === 'string' && value.what.length <= REASON_MAX_CHARACTERS && value.reason.length <= REASON_MAX_CHARACTERS
}

const isTls = (value: unknown): value is PushedTls => {
  return isObject(value) && (value.pins === undefined || isStrings(value.pins)) && [value.ca, value.server_name, value.min_version, value.client_cert, value.client_key].every(isTextOrNone)
}

const isMs = (value: unknown): boolean => value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0)

export const isSettings = (value: unknown): value is PushedSettings => {
  if (!isObject(value) || (value.channels !== undefined && !isStrings(value.channels)) || (value.tls !== undefined && !isTls(value.tls))) return false
  return isCount(value.connections) && isTextOrNone(value.encryption) && [value.heartbeat_ms, value.dead_after_ms, value.grace_ms].every(isMs)
}

/** The path goes into a request line as it is. */
const isHealth = (value: unknown): value is HealthCheck => {
  if (!isObject(value) || (value.kind !== 'http' && value.kind !== 'tcp')) return false
  if (value.path !== undefined && (typeof value.path !== 'string' || !/^\/[\x21-\x7e]*$/.test(value.path))) return false
  return [value.interval_ms, value.timeout_ms, value.unhealthy_after, value.healthy_after].every(isCount)
}

export const isService = (value: unknown): value is ServedService => {
  return isObject(value) && typeof value.name === 'string' && isStrings(value.hosts) && isTextOrNone(value.origin) && (value.health === undefined || isHealth(value.health))
}

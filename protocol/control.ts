// What is said on the control stream: JSON, one message a line (SPEC §10.1).
import { errors, PosternError } from './errors.ts'
import { encodeLine, JsonLines } from './json-lines.ts'

/** A hostname list and service names for thousands of services stay below this. */
export const CONTROL_LINE_MAX_BYTES = 262_144

export interface ServedService {
  readonly name: string
  readonly hosts: readonly string[]
}

/** Agent: which services it serves from now on, and which of their origins are not well. Gateway: which it may serve from now on. */
export type ControlMessage = { readonly serves: readonly string[]; readonly unhealthy?: readonly string[] } | { readonly services: readonly ServedService[] }

export const encodeControl = (message: ControlMessage): Uint8Array => encodeLine(message)

/** Cuts what comes over the stream into messages. Members and messages it does not know are passed over. */
export class ControlReader {
  private readonly lines = new JsonLines(CONTROL_LINE_MAX_BYTES)

  /** Throws a `protocol_error` for a line that is too long or no JSON object, or says what it says in the wrong way. */
  push(chunk: Uint8Array): ControlMessage[] {
    return this.lines.push(chunk).flatMap((line) => read(line) ?? [])
  }
}

function read(line: object): ControlMessage | undefined {
  if ('serves' in line) {
    const { serves, unhealthy = [] } = line as { serves: unknown; unhealthy?: unknown }
    if (!isStrings(serves) || !isStrings(unhealthy)) throw new PosternError(errors.protocol_error, '`serves` or `unhealthy` is not a list of names')
    return { serves, unhealthy }
  }
  if ('services' in line) {
    if (!Array.isArray(line.services) || !line.services.every(isService)) throw new PosternError(errors.protocol_error, '`services` is not a list of services')
    return { services: line.services }
  }
  return undefined
}

const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every((entry) => typeof entry === 'string')

export const isService = (value: unknown): value is ServedService =>
  typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string' && 'hosts' in value && isStrings(value.hosts)

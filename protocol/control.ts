// What is said on the control stream: JSON, one message a line (SPEC §10.1).
import { errors, PosternError } from './errors.ts'

/** A hostname list and service names for thousands of services stay below this. */
export const CONTROL_LINE_MAX_BYTES = 262_144

export interface ServedService {
  readonly name: string
  readonly hosts: readonly string[]
}

/** Agent: which services it serves from now on. Gateway: which it may serve from now on. */
export type ControlMessage = { readonly serves: readonly string[] } | { readonly services: readonly ServedService[] }

export function encodeControl(message: ControlMessage): Uint8Array {
  return Buffer.from(`${JSON.stringify(message)}\n`, 'utf8')
}

/** Cuts what comes over the stream into messages. Members and messages it does not know are passed over. */
export class ControlReader {
  private parts: Uint8Array[] = []
  private held = 0

  /** Throws a `protocol_error` for a line that is too long or no JSON object. */
  push(chunk: Uint8Array): ControlMessage[] {
    const messages: ControlMessage[] = []
    let from = 0
    for (let newline = chunk.indexOf(10); newline >= 0; newline = chunk.indexOf(10, from)) {
      this.hold(chunk.subarray(from, newline))
      from = newline + 1
      const message = read(Buffer.concat(this.parts).toString('utf8'))
      this.parts = []
      this.held = 0
      if (message !== undefined) messages.push(message)
    }
    this.hold(chunk.subarray(from))
    return messages
  }

  private hold(part: Uint8Array): void {
    this.held += part.length
    if (this.held > CONTROL_LINE_MAX_BYTES) throw new PosternError(errors.protocol_error, 'a control message without an end')
    if (part.length > 0) this.parts.push(part)
  }
}

function read(line: string): ControlMessage | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new PosternError(errors.protocol_error, 'a control message that is no JSON')
  }
  if (typeof value !== 'object' || value === null) throw new PosternError(errors.protocol_error, 'a control message that is no object')
  if ('serves' in value) {
    if (!isStrings(value.serves)) throw new PosternError(errors.protocol_error, '`serves` is not a list of names')
    return { serves: value.serves }
  }
  if ('services' in value) {
    if (!Array.isArray(value.services) || !value.services.every(isService)) throw new PosternError(errors.protocol_error, '`services` is not a list of services')
    return { services: value.services }
  }
  return undefined
}

const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every((entry) => typeof entry === 'string')

export const isService = (value: unknown): value is ServedService =>
  typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string' && 'hosts' in value && isStrings(value.hosts)

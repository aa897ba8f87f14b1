// JSON objects, one a line, as standing streams carry them (SPEC §10): cut out of whatever chunks they come in.
import { errors, PosternError } from './errors.ts'
import { Gathering } from './gathering.ts'

export function encodeLine(message: object): Uint8Array {
  return Buffer.from(`${JSON.stringify(message)}\n`, 'utf8')
}

export class JsonLines<Said> {
  private readonly maxBytes: number
  private readonly read: (line: object) => Said | undefined
  private readonly held = new Gathering()

  /** `read` makes of an object what it says, or throws a `protocol_error`; undefined: it is passed over. */
  constructor(maxBytes: number, read: (line: object) => Said | undefined) {
    this.maxBytes = maxBytes
    this.read = read
  }

  /** Throws a `protocol_error` for a line that is too long, no JSON object or of another form. */
  push(chunk: Uint8Array): Said[] {
    const lines: Said[] = []
    let from = 0
    for (let newline = chunk.indexOf(10); newline >= 0; newline = chunk.indexOf(10, from)) {
      this.hold(chunk.subarray(from, newline))
      from = newline + 1
      const said = this.read(parse(this.held.take().toString('utf8')))
      if (said !== undefined) lines.push(said)
    }
    this.hold(chunk.subarray(from))
    return lines
  }

  private hold(part: Uint8Array): void {
    if (this.held.bytes + part.length > this.maxBytes) throw new PosternError(errors.protocol_error, `a line of more than ${String(this.maxBytes)} bytes`)
    this.held.add(part)
  }
}

function parse(line: string): object {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new PosternError(errors.protocol_error, 'a line that is no JSON')
  }
  if (typeof value !== 'object' || value === null) throw new PosternError(errors.protocol_error, 'a line that is no JSON object')
  return value
}

/** A count or a size in such an object. */
export const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

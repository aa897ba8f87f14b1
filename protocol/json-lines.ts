// JSON objects, one a line, as standing streams carry them (SPEC §10): cut out of whatever chunks they come in.
import { errors, PosternError } from './errors.ts'
import { Gathering } from './gathering.ts'

export function encodeLine(message: object): Uint8Array {
  return Buffer.from(`${JSON.stringify(message)}\n`, 'utf8')
}

export class JsonLines {
  private readonly maxBytes: number
  private readonly held = new Gathering()

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  /** Throws a `protocol_error` for a line that is too long or no JSON object. */
  push(chunk: Uint8Array): object[] {
    const lines: object[] = []
    let from = 0
    for (let newline = chunk.indexOf(10); newline >= 0; newline = chunk.indexOf(10, from)) {
      this.hold(chunk.subarray(from, newline))
      from = newline + 1
      lines.push(read(this.held.take().toString('utf8')))
    }
    this.hold(chunk.subarray(from))
    return lines
  }

  private hold(part: Uint8Array): void {
    if (this.held.bytes + part.length > this.maxBytes) throw new PosternError(errors.protocol_error, `a line of more than ${String(this.maxBytes)} bytes`)
    this.held.add(part)
  }
}

function read(line: string): object {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new PosternError(errors.protocol_error, 'a line that is no JSON')
  }
  if (typeof value !== 'object' || value === null) throw new PosternError(errors.protocol_error, 'a line that is no JSON object')
  return value
}

// Reads the fields of a message or frame one after the other, never beyond its end (SPEC §1).
import { errors, PosternError } from './errors.ts'

/** A cursor over bytes. Every read throws a `protocol_error` when the bytes end too early. It is set anew instead of made anew: the hot path allocates none. */
export class Reader {
  bytes: Buffer = EMPTY
  at = 0
  end = 0

  set(bytes: Buffer, at = 0, end = bytes.length): this {
    this.bytes = bytes
    this.at = at
    this.end = end
    return this
  }

  get left(): number {
    return this.end - this.at
  }

  u8(): number {
    if (this.at >= this.end) throw truncated()
    return this.bytes[this.at++]!
  }

  u32(): number {
    if (this.at + 4 > this.end) throw truncated()
    const b = this.bytes
    const at = this.at
    this.at = at + 4
    return b[at]! * 0x100_0000 + ((b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!)
  }

  varint(): number {
    const first = this.u8()
    if (first < 0x40) return first
    const rest = (1 << (first >>> 6)) - 1
    if (this.at + rest > this.end) throw truncated()
    const b = this.bytes
    let at = this.at
    let value = first & 0x3f
    this.at = at + rest
    while (at < this.at) value = value * 256 + b[at++]!
    if (value > Number.MAX_SAFE_INTEGER) throw new PosternError(errors.protocol_error, 'a number beyond 2^53-1')
    return value
  }

  /** A view of the next `length` bytes. */
  take(length: number): Buffer {
    if (length > this.end - this.at) throw truncated()
    const view = this.bytes.subarray(this.at, this.at + length)
    this.at += length
    return view
  }

  /** A view of all that is left. */
  rest(): Buffer {
    return this.at === this.end ? EMPTY : this.take(this.end - this.at)
  }

  /** The next `length` bytes as latin1. */
  latin1(length: number): string {
    if (length > this.end - this.at) throw truncated()
    return this.bytes.toString('latin1', this.at, (this.at += length))
  }

  /** The next `length` bytes as lower-case hexadecimal digits. */
  hex(length: number): string {
    if (length > this.end - this.at) throw truncated()
    return this.bytes.toString('hex', this.at, (this.at += length))
  }

  utf8(length: number): string {
    return this.take(length).toString('utf8')
  }
}

const EMPTY = Buffer.alloc(0)
const truncated = (): PosternError => new PosternError(errors.protocol_error, 'the bytes end too early')

// Reads the answer to one request off a connection to an origin, strictly: whatever could be read in two ways is no answer (RFC 9112).
import { errors, PosternError } from '../protocol/errors.ts'
import { fieldValue } from '../protocol/field-value.ts'
import { HEAD_MAX_BYTES, HEAD_MAX_FIELDS, INTERIM_HEADS_MAX_COUNT } from '../protocol/limits.ts'

/** What an answer is made of, told in the turn in which it arrives. Fields are name, value, … as they came. */
export interface AnswerEvents {
  answerHead(status: number, fields: string[]): void
  answerData(chunk: Buffer): void
  answerEnd(trailers: string[]): void
}

type State = 'head' | 'length' | 'close' | 'size' | 'chunk' | 'chunk end' | 'trailers' | 'over'

const PROTOCOL = 'HTTP/1.'
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?$/
const LENGTH = /^[0-9]{1,15}$/
const SIZE_LINE = /^([0-9A-Fa-f]{1,13})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/
/** A chunk's size and its extensions. */
const SIZE_LINE_MAX_BYTES = 4_096
const END_OF_HEAD = Buffer.from('\r\n\r\n')
const END_OF_LINE = Buffer.from('\r\n')
const EMPTY = Buffer.alloc(0)

export class AnswerReader {
  /** May the connection carry another request, once this answer is over? */
  keeps = true
  /** Did a byte of an answer come? */
  began = false
  /** The final head was there and was one. */
  answered = false
  private readonly events: AnswerEvents
  private readonly toHead: boolean
  private state: State = 'head'
  private held: Buffer = EMPTY
  private left = 0
  private interims = 0

  /** `toHead`: the request was HEAD, so that no body follows. */
  constructor(events: AnswerEvents, toHead: boolean) {
    this.events = events
    this.toHead = toHead
  }

  get over(): boolean {
    return this.state === 'over'
  }

  /** Takes what came. Throws `origin_protocol` or `origin_head_too_large`. */
  push(chunk: Buffer): void {
    this.began = true
    let rest: Buffer | undefined = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk])
    this.held = EMPTY
    while (rest !== undefined && rest.length > 0) {
      // What comes behind an answer is nobody's.
      if (this.state === 'over') {
        this.keeps = false
        return
      }
      rest = this.step(rest)
    }
  }

  /** The connection ended. True if the answer is complete by that. */
  closed(): boolean {
    this.keeps = false
    if (this.state === 'close') this.finish([])
    return this.state === 'over'
  }

  // What is left of the bytes, or undefined when more of them are needed (they are held).
  private step(bytes: Buffer): Buffer | undefined {
    switch (this.state) {
      case 'head':
        return this.readHead(bytes)
      case 'length':
      case 'chunk':
        return this.readCounted(bytes)
      case 'close':
        this.events.answerData(bytes)
        return undefined
      case 'size':
        return this.readSize(bytes)
      case 'chunk end':
        if (bytes.length < 2) return this.hold(bytes, 2)
        if (bytes[0] !== 13 || bytes[1] !== 10) throw wrong('a chunk that does not end where its size said')
        this.state = 'size'
        return bytes.subarray(2)
      case 'trailers':
        return this.readTrailers(bytes)
      case 'over':
        return undefined
    }
  }

  private hold(bytes: Buffer, most: number): undefined {
    if (bytes.length > most) throw new PosternError(errors.origin_head_too_large, `more than ${String(most)} bytes`)
    this.held = bytes
    return undefined
  }

  private readHead(bytes: Buffer): Buffer | undefined {
    // Whoever speaks something else may never send an empty line.
    if (bytes.toString('latin1', 0, PROTOCOL.length) !== PROTOCOL.slice(0, bytes.length)) throw wrong('this is no HTTP')
    const end = bytes.indexOf(END_OF_HEAD)
    if (end < 0) return this.hold(bytes, HEAD_MAX_BYTES)
    if (end > HEAD_MAX_BYTES) throw new PosternError(errors.origin_head_too_large, `a head of ${String(end)} bytes`)
    const text = bytes.toString('latin1', 0, end)
    const first = text.indexOf('\r\n')
    const firstEnd = first < 0 ? text.length : first
    const line = STATUS_LINE.exec(text.slice(0, firstEnd))
    if (line === null) throw wrong('no status line')
    const status = Number(line[2])
    const fields = fieldsOf(text, firstEnd + 2)
    const rest = bytes.subarray(end + END_OF_HEAD.length)
    if (status < 200) {
      if (status === 101) throw wrong('went over to another protocol unasked')
      if (++this.interims > INTERIM_HEADS_MAX_COUNT) throw wrong('too many interim answers')
      this.events.answerHead(status, fields)
      return rest
    }
    const next = this.framing(status, fields, line[1] === '1')
    this.events.answerHead(status, fields)
    this.answered = true
    this.state = next
    if (next === 'length' && this.left === 0) this.finish([])
    return rest
  }

  /** How the end of the body is told (RFC 9112 §6.3). */
  private framing(status: number, fields: readonly string[], isNew: boolean): State {
    let length: string | undefined
    let chunked = false
    if (!isNew) this.keeps = false
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]!
      // Only these three lengths can be one of the names.
      if (name.length !== 10 && name.length !== 14 && name.length !== 17) continue
      const lower = name.toLowerCase()
      if (lower === 'content-length') {
        if (length !== undefined || !LENGTH.test(fields[i + 1]!)) throw wrong('Content-Length is no single number')
        length = fields[i + 1]!
      } else if (lower === 'transfer-encoding') {
        if (chunked || !isNew || fields[i + 1]!.toLowerCase() !== 'chunked') throw wrong('a Transfer-Encoding other than chunked')
        chunked = true
      } else if (lower === 'connection' && /(?:^|[,\t ])close(?:[,\t ]|$)/i.test(fields[i + 1]!)) this.keeps = false
    }
    if (chunked && length !== undefined) throw wrong('Content-Length beside Transfer-Encoding')
    this.left = 0
    if (this.toHead || status === 204 || status === 304) return 'length'
    if (chunked) return 'size'
    if (length === undefined) {
      this.keeps = false
      return 'close'
    }
    this.left = Number(length)
    return 'length'
  }

  private readCounted(bytes: Buffer): Buffer {
    const part = bytes.length <= this.left ? bytes : bytes.subarray(0, this.left)
    this.left -= part.length
    this.events.answerData(part)
    if (this.left === 0) {
      if (this.state === 'chunk') this.state = 'chunk end'
      else this.finish([])
    }
    return part === bytes ? EMPTY : bytes.subarray(part.length)
  }

  private readSize(bytes: Buffer): Buffer | undefined {
    const end = bytes.indexOf(END_OF_LINE)
    if (end < 0) return this.hold(bytes, SIZE_LINE_MAX_BYTES)
    const line = SIZE_LINE.exec(bytes.toString('latin1', 0, end))
    if (line === null || end > SIZE_LINE_MAX_BYTES) throw wrong('no size of a chunk')
    this.left = Number.parseInt(line[1]!, 16)
    this.state = this.left === 0 ? 'trailers' : 'chunk'
    // The empty line that ends trailers begins where this one ends, if there are none.
    return bytes.subarray(this.left === 0 ? end : end + 2)
  }

  private readTrailers(bytes: Buffer): Buffer | undefined {
    const end = bytes.indexOf(END_OF_HEAD)
    if (end < 0) return this.hold(bytes, HEAD_MAX_BYTES)
    const trailers = end === 0 ? [] : fieldsOf(bytes.toString('latin1', 2, end), 0)
    for (let i = 0; i < trailers.length; i += 2) if (/^(?:content-length|transfer-encoding)$/i.test(trailers[i]!)) throw wrong('framing in the trailers')
    this.finish(trailers)
    return bytes.subarray(end + END_OF_HEAD.length)
  }

  private finish(trailers: string[]): void {
    this.state = 'over'
    this.events.answerEnd(trailers)
  }
}

/** Name, value, name, value, … of the lines in `text` from `at` on. */
function fieldsOf(text: string, at: number): string[] {
  const fields: string[] = []
  for (let end = at; at < text.length; at = end + 2) {
    end = text.indexOf('\r\n', at)
    if (end < 0) end = text.length
    const colon = text.indexOf(':', at)
    if (colon <= at || colon > end) throw wrong('a line of the head is no field')
    if (fields.length === 2 * HEAD_MAX_FIELDS) throw new PosternError(errors.origin_head_too_large, `more than ${String(HEAD_MAX_FIELDS)} fields`)
    fields.push(text.slice(at, colon), fieldValue(text, colon + 1, end))
  }
  return fields
}

const wrong = (detail: string): PosternError => new PosternError(errors.origin_protocol, detail)

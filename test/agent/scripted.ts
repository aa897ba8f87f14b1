// A stream whose other end is the test itself: it records what the exchange does with it, and holds it to the contract.
import type { ErrorCode } from '../../protocol/errors.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents, StreamKind } from '../../protocol/stream.ts'
import { type Origin } from '../../agent/origin.ts'
import { until } from '../harness/until.ts'

/** write() says false above so many bytes that the test has not taken. */
const QUEUE_BYTES = 65_536

export function request(method: string, path: string, fields: readonly string[] = [], protocol?: string): Fields {
  const pseudo = [':method', method, ':scheme', 'http', ':authority', 'demo.example', ':path', path]
  return [...pseudo, ...(protocol === undefined ? [] : [':protocol', protocol]), ...fields]
}

export class ScriptedStream implements Stream {
  readonly id = 0
  events: StreamEvents | undefined
  readonly interims: Fields[] = []
  head: Fields | undefined
  /** The head's frame was the whole answer. */
  whole = false
  bytes = 0
  chunks: Uint8Array[] = []
  ended = false
  trailers: Fields = NO_FIELDS
  stopped: ErrorCode | undefined
  failure: { code: ErrorCode; begun: boolean } | undefined
  consumedBytes = 0
  /** Take what is written at once; false: only by take(). */
  reading = true
  private queued = 0
  private waits = false

  sendHead(fields: Fields, body: Uint8Array | undefined, end: boolean): void {
    if (this.head !== undefined) throw new Error('a second final head')
    if (fields[1]?.startsWith('1') === true && fields[1] !== '101') return void this.interims.push(fields)
    this.head = fields
    this.whole = end
    this.ended = end
    if (body !== undefined) this.keep(body)
  }

  write(chunk: Uint8Array): boolean {
    if (this.head === undefined || this.ended || this.failure !== undefined) throw new Error('a chunk out of turn')
    this.keep(chunk)
    if (this.reading) return true
    this.queued += chunk.length
    this.waits = this.queued >= QUEUE_BYTES
    return !this.waits
  }

  give(chunk: Uint8Array): boolean {
    return this.write(chunk)
  }

  end(trailers: Fields = NO_FIELDS): void {
    if (this.head === undefined || this.ended || this.failure !== undefined) throw new Error('an end out of turn')
    this.ended = true
    this.trailers = trailers
  }

  stop(code: ErrorCode): void {
    this.stopped = code
  }

  reset(code: ErrorCode, begun: boolean): void {
    if (this.failure !== undefined) throw new Error('reset twice')
    this.failure = { code, begun }
  }

  consumed(bytes: number): void {
    this.consumedBytes += bytes
  }

  /** The test has taken all that was written. */
  take(): void {
    this.queued = 0
    if (!this.waits) return
    this.waits = false
    this.events!.onDrain()
  }

  get status(): string | undefined {
    return this.head?.[1]
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }

  get over(): boolean {
    return this.ended || this.failure !== undefined
  }

  private keep(chunk: Uint8Array): void {
    this.bytes += chunk.length
    this.chunks.push(chunk)
  }
}

export interface Sent {
  readonly body?: string | Buffer
  /** The opener goes on sending after OPEN. */
  readonly open?: boolean
}

/** Opens an exchange at an origin. Refused ones look as their RESET would. */
export function send(origin: Origin, fields: Fields, sent: Sent = {}): ScriptedStream {
  const stream = new ScriptedStream()
  const opening: Opening = {
    kind: StreamKind.exchange,
    uuid: '00112233445566778899aabbccddeeff',
    service: 'demo',
    fields,
    extension: NO_FIELDS,
    body: Buffer.from(sent.body ?? ''),
    ended: sent.open !== true,
  }
  const answer = origin.take(opening, stream)
  if ('onHead' in answer) stream.events = answer
  else stream.failure = { code: answer, begun: false }
  return stream
}

/** Opens an exchange and waits until it is over. */
export async function ask(origin: Origin, fields: Fields, sent: Sent = {}): Promise<ScriptedStream> {
  const stream = send(origin, fields, sent)
  await until('the exchange is over', () => stream.over)
  return stream
}

/** What an answer says of a field, all of it in order. */
export function fieldsOf(fields: Fields | undefined, name: string): string[] {
  const values: string[] = []
  for (let i = 0; i < (fields?.length ?? 0); i += 2) if (fields![i]!.toLowerCase() === name) values.push(fields![i + 1]!)
  return values
}

// The plain case of an exchange at its origin: a request that is whole when it comes, and no upgrade. Most are, so they go without undici.
import { type ErrorCode, errors, IDEMPOTENT, PosternError } from '../protocol/errors.ts'
import { INLINE_BODY_MAX_BYTES } from '../protocol/limits.ts'
import type { Fields, Opening, Stream, StreamEvents } from '../protocol/stream.ts'
import { AnswerReader, type AnswerEvents } from './answer-reader.ts'
import type { Connection, ConnectionUser, KeptConnections } from './kept-connections.ts'
import { blameAnswer, blameConnect } from './origin-errors.ts'
import type { ExchangeOwner } from './origin-exchange.ts'
import { answerFields, answerTrailers, type OriginRequest } from './origin-fields.ts'

/** Of these an origin expects a body, so that having none is said (RFC 9110 §8.6). */
const EXPECTS_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH'])

export class PlainExchange implements StreamEvents, AnswerEvents, ConnectionUser {
  private readonly owner: ExchangeOwner
  private readonly connections: KeptConnections
  private readonly request: OriginRequest
  private readonly body: Uint8Array
  private readonly stream: Stream
  private connection: Connection | undefined
  private reader: AnswerReader
  /** The request was written, or a part of it. */
  private begun = false
  private over = false
  /** A final head that waits for what came with it. */
  private head: Fields | undefined
  private first: Buffer[] = []

  /** Throws a PosternError when the body does not fit the length that was announced. */
  constructor(owner: ExchangeOwner, connections: KeptConnections, request: OriginRequest, opening: Opening, stream: Stream) {
    const { length } = request
    if (length !== undefined && opening.body.length > length) throw new PosternError(errors.bad_request, 'the body is longer than Content-Length')
    if (length !== undefined && opening.body.length < length) throw new PosternError(errors.body_incomplete, 'the body is shorter than Content-Length')
    this.owner = owner
    this.connections = connections
    this.request = request
    this.body = opening.body
    this.stream = stream
    this.reader = this.newReader()
    owner.active++
    const idle = connections.takeIdle()
    if (idle === undefined) this.connect()
    else this.send(idle)
  }

  private newReader(): AnswerReader {
    return new AnswerReader(this, this.request.method === 'HEAD')
  }

  private connect(): void {
    this.connections.connect((error, connection) => {
      if (connection === undefined) this.fail(blameConnect(error!), error!.message)
      else if (this.over) this.connections.release(connection)
      else this.send(connection)
    })
  }

  private send(connection: Connection): void {
    this.connection = connection
    connection.user = this
    this.begun = true
    const { method, path, headers, length } = this.request
    let head = `${method} ${path} HTTP/1.1\r\n`
    for (let i = 0; i < headers.length; i += 2) head += `${headers[i]!}: ${headers[i + 1]!}\r\n`
    if (length === undefined && (this.body.length > 0 || EXPECTS_BODY.has(method))) head += `content-length: ${String(this.body.length)}\r\n`
    head += 'connection: keep-alive\r\n\r\n'
    const { socket } = connection
    if (this.body.length === 0) return void socket.write(head, 'latin1')
    socket.cork()
    socket.write(head, 'latin1')
    socket.write(this.body)
    socket.uncork()
  }

  // --- the connection ------------------------------------------------------------------------------------------------

  connectionData(chunk: Buffer): void {
    try {
      this.reader.push(chunk)
      this.flushHead()
    } catch (error) {
      if (!(error instanceof PosternError)) throw error
      return this.fail(this.blame(error.code), error.message)
    }
    if (this.reader.over) this.letGo()
  }

  private blame(code: ErrorCode): ErrorCode {
    if (code === errors.head_too_large) return errors.origin_head_too_large
    return code === errors.origin_protocol && this.reader.answered ? errors.origin_incomplete : code
  }

  connectionGone(error: Error | undefined): void {
    const connection = this.connection
    this.connection = undefined
    if (this.over) return
    if (error === undefined && this.reader.closed()) return
    // Closed by the origin just as the request left: on a connection that was kept, that says nothing of the request.
    if (connection?.used === true && !this.reader.began && IDEMPOTENT.has(this.request.method)) {
      this.reader = this.newReader()
      return this.connect()
    }
    const code = error === undefined ? (this.reader.answered ? errors.origin_incomplete : errors.origin_reset) : blameAnswer(error, this.reader.answered)
    this.fail(code, error?.message ?? 'the connection was closed')
  }

  // --- the answer ----------------------------------------------------------------------------------------------------

  answerHead(status: number, came: string[]): void {
    const fields = answerFields(status, came)
    if (status < 200) this.stream.sendHead(fields, undefined, false)
    else this.head = fields
  }

  answerData(chunk: Buffer): void {
    if (this.over) return
    if (this.head !== undefined) this.first.push(chunk)
    else if (!this.stream.give(chunk)) this.connection?.pause()
  }

  answerEnd(came: string[]): void {
    if (this.over) return
    const trailers = answerTrailers(came)
    const head = this.head
    if (head !== undefined && trailers.length === 0) {
      this.head = undefined
      this.stream.sendHead(head, joined(this.first), true)
    } else {
      this.flushHead()
      this.stream.end(trailers)
    }
    this.first = []
    this.over = true
    this.owner.over()
  }

  // What came with the head in one piece rides in its frame if it is little.
  private flushHead(): void {
    const head = this.head
    if (head === undefined || this.over) return
    this.head = undefined
    const body = joined(this.first)
    this.first = []
    const whole = body === undefined || body.length <= INLINE_BODY_MAX_BYTES
    this.stream.sendHead(head, whole ? body : undefined, false)
    if (!whole && !this.stream.give(body)) this.connection?.pause()
  }

  onDrain(): void {
    this.connection?.resume()
  }

  // --- the end -------------------------------------------------------------------------------------------------------

  onHead(): void {
    this.fail(errors.protocol_error, 'a head from the opener')
  }

  onData(): void {
    this.fail(errors.protocol_error, 'a body behind its end')
  }

  onEnd(): void {}

  /** The gateway reads no more of the answer: for whom should the origin go on? */
  onStop(): void {
    this.leave()
  }

  onReset(): void {
    this.leave()
  }

  private fail(code: ErrorCode, detail: string): void {
    if (this.over) return
    this.owner.trouble(code, detail)
    this.stream.reset(code, this.begun)
    this.leave()
  }

  private leave(): void {
    if (!this.over) {
      this.over = true
      this.owner.over()
    }
    this.first = []
    const connection = this.connection
    this.connection = undefined
    if (connection === undefined) return
    connection.user = undefined
    connection.destroy()
  }

  /** The answer is over. */
  private letGo(): void {
    const connection = this.connection
    this.connection = undefined
    if (connection === undefined) return
    if (this.reader.keeps) return this.connections.release(connection)
    connection.user = undefined
    connection.destroy()
  }
}

function joined(chunks: readonly Buffer[]): Buffer | undefined {
  return chunks.length > 1 ? Buffer.concat(chunks) : chunks[0]
}

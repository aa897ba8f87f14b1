// One request and its answer on a connection of nginx's: the body in, the answer out with framing of our own, and what makes it break.
import { STATUS_CODES } from 'node:http'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { GIVEN_BACK_MIN_BYTES, giveBack } from '../protocol/give-back.ts'
import { type Fields, NO_FIELDS } from '../protocol/stream.ts'
import type { Answer, Carry, Exchange, Request } from './carry.ts'
import type { H1Connection } from './ingress-h1.ts'
import { refuse } from './refusal.ts'
import { checkResponseHead, checkTrailers, isBodiless, type ResponseHead } from './response-head.ts'

/** nginx sends longer bodies by the other door; it stops an upload here once a head has passed, so an answer waits for a body up to this. */
const HELD_FOR_BODY_MAX_BYTES = 65_536
/** Up to this, copying a body behind its head costs less than a second buffer to write. */
const JOINED_BODY_MAX_BYTES = 4_096

const EMPTY = Buffer.alloc(0)

export class H1Turn implements Answer {
  /** The connection is the visitor's and the agent's own now. */
  tunnels = false
  private readonly connection: H1Connection
  private readonly uuid: string
  private readonly service: string
  private readonly method: string
  private readonly upgrade: string
  private readonly accept: string
  private readonly holds: boolean
  private readonly earlyHints: boolean
  private exchange: Exchange | undefined
  private bodyLeft: number
  private stoppedReading = false
  private headSent = false
  /** Nothing more of the answer comes, or it is not wanted. */
  private over = false
  private visitorOver = false
  /** What waits for the request body: the head and what came behind it, at most a window. */
  private heldHead: Fields | undefined
  private heldBody: Uint8Array[] = []
  private heldBytes = 0
  private bodiless = false
  private chunked = false
  private length = -1
  private sent = 0
  /** Written and not yet reported as taken. */
  private owed = 0
  private written: (() => void) | undefined
  private cancelledWith: ErrorCode | undefined

  /** `service`: '' if nginx knows it. */
  constructor(connection: H1Connection, uuid: string, service: string, method: string, upgrade: string, accept: string, bodyBytes: number, earlyHints: boolean) {
    this.connection = connection
    this.uuid = uuid
    this.service = service
    this.method = method
    this.upgrade = upgrade
    this.accept = accept
    this.bodyLeft = bodyBytes
    this.holds = bodyBytes <= HELD_FOR_BODY_MAX_BYTES
    this.earlyHints = earlyHints
  }

  start(carry: Carry, request: Request, body: Uint8Array): void {
    this.bodyLeft -= body.length
    const exchange = carry(request, body, this.bodyLeft === 0 && this.upgrade === '', this)
    this.exchange = exchange
    // The answer may have come, and been judged, before carry() returned.
    if (this.cancelledWith !== undefined) exchange.cancel(this.cancelledWith)
    else if (this.owed > 0) this.settle()
    if (this.headSent && !this.tunnels && this.upgrade !== '') exchange.end()
  }

  /** Do bytes that came too early belong to the upgrade, should it happen? */
  get mayTakeLater(): boolean {
    return this.upgrade !== '' && !this.over && !this.headSent
  }

  /** How many of the bytes were this request's. */
  take(bytes: Buffer): number {
    if (this.tunnels) {
      if (!this.over || !this.visitorOver) this.pauseUnless(this.exchange!.give(bytes))
      return bytes.length
    }
    if (this.bodyLeft === 0) return 0
    const part = bytes.length > this.bodyLeft ? bytes.subarray(0, this.bodyLeft) : bytes
    this.bodyLeft -= part.length
    if (!this.over && !this.stoppedReading) this.pauseUnless(this.exchange!.give(part) || this.bodyLeft === 0)
    if (this.bodyLeft === 0) this.bodyCame()
    return part.length
  }

  private pauseUnless(room: boolean): void {
    if (!room) this.connection.pause()
  }

  private bodyCame(): void {
    if (this.over) return this.connection.finished(this)
    if (!this.stoppedReading) this.exchange!.end()
    if (!this.over) this.release(false)
  }

  /** The socket is gone. */
  left(): void {
    if (this.over && (!this.tunnels || this.visitorOver)) return
    this.over = true
    this.cancel(errors.cancelled)
  }

  /** In a tunnel: the visitor sends no more, and may still read. */
  visitorEnded(): void {
    this.visitorOver = true
    this.exchange!.end()
  }

  // --- the answer ----------------------------------------------------------------------------------------------------

  // nginx before 1.29 takes any 1xx but 101 for the answer, and one that knows 103 knows no other. Behind a head, see pass(), it would stop the upload.
  interim(fields: Fields): void {
    if (!this.earlyHints || fields[1] !== '103' || this.over || this.bodyLeft > 0 || this.upgrade !== '') return
    const checked = checkTrailers(fields.slice(2))!
    let text = 'HTTP/1.1 103 Early Hints\r\n'
    for (let i = 0; i < checked.length; i += 2) text += `${checked[i]!}: ${checked[i + 1]!}\r\n`
    this.connection.socket.write(`${text}\r\n`, 'latin1')
  }

  head(fields: Fields, body: Uint8Array, ended: boolean): void {
    if (!ended && this.bodyLeft > 0 && this.holds) {
      this.heldHead = fields
      if (body.length > 0) this.hold(body)
    } else this.pass(fields, body, ended)
  }

  private hold(chunk: Uint8Array): void {
    this.heldBody.push(chunk)
    this.heldBytes += chunk.length
  }

  private release(ended: boolean): void {
    const fields = this.heldHead
    if (fields === undefined) return
    const body = this.heldBody.length === 1 ? this.heldBody[0]! : Buffer.concat(this.heldBody)
    this.heldHead = undefined
    this.heldBody = []
    this.pass(fields, body, ended)
  }

  private pass(fields: Fields, body: Uint8Array, ended: boolean): void {
    const head = checkResponseHead(fields, this.upgrade !== '')
    if (typeof head === 'string') return this.breaks(head)
    if (head.status === 101) return this.switch(head, body, ended)
    this.bodiless = isBodiless(this.method, head.status)
    if (this.bodiless && body.length > 0) return this.breaks('a body where none may be')
    this.length = this.bodiless ? -1 : head.length
    if (this.length !== -1 && (ended ? body.length !== this.length : body.length > this.length)) return this.breaks('Content-Length is not the length of the body')
    // Whether bytes behind a refused upgrade are the visitor's next request or of the protocol it asked for can't be told.
    if (this.upgrade !== '') this.connection.last = true
    this.headSent = true
    this.chunked = !this.bodiless && !ended && this.length === -1
    this.writeHead(head, this.chunked ? -1 : ended && !this.bodiless ? body.length : head.length, body, ended)
    if (this.upgrade !== '' && this.exchange !== undefined) this.exchange.end()
    if (ended) this.done()
  }

  private switch(head: ResponseHead, body: Uint8Array, ended: boolean): void {
    this.headSent = true
    this.tunnels = true
    this.connection.last = false
    this.writeHead(head, -1, body, ended)
    if (ended) this.end(NO_FIELDS)
    // Not before carry() returned: the exchange is needed to pass on what comes.
    process.nextTick(() => this.connection.more())
  }

  private writeHead(head: ResponseHead, length: number, body: Uint8Array, ended: boolean): void {
    const { status, fields } = head
    let text = `HTTP/1.1 ${String(status)} ${STATUS_CODES[status] ?? ''}\r\n`
    for (let i = 0; i < fields.length; i += 2) text += `${fields[i]!}: ${fields[i + 1]!}\r\n`
    if (this.service !== '') text += `Postern-Service: ${this.service}\r\n`
    const agent = this.exchange?.agent
    if (agent !== undefined && agent !== '') text += `Postern-Agent: ${agent}\r\n`
    if (status === 101) text += `Connection: upgrade\r\nUpgrade: ${head.upgrade === '' ? this.upgrade : head.upgrade}\r\n`
    else if (status === 426 && head.upgrade !== '') text += `Connection: upgrade${this.connection.last ? ', close' : ''}\r\nUpgrade: ${head.upgrade}\r\n`
    else if (this.connection.last) text += 'Connection: close\r\n'
    if (this.chunked) text += 'Transfer-Encoding: chunked\r\n'
    else if (length !== -1 && status !== 204 && status !== 101) text += `Content-Length: ${String(length)}\r\n`
    text += '\r\n'
    this.sent = body.length
    const { socket } = this.connection
    if (body.length === 0) socket.write(text, 'latin1')
    else if (body.length <= JOINED_BODY_MAX_BYTES && !this.chunked) {
      const joined = text + Buffer.from(body.buffer, body.byteOffset, body.length).toString('latin1')
      // Of an answer that is whole no credit is asked any more.
      if (ended) return void socket.write(joined, 'latin1')
      this.owed += body.length
      socket.write(joined, 'latin1', this.told())
    } else {
      this.connection.cork()
      socket.write(text, 'latin1')
      this.writeBody(body)
    }
  }

  private writeBody(chunk: Uint8Array): void {
    const { socket } = this.connection
    this.owed += chunk.length
    this.connection.cork()
    if (this.chunked) socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1')
    if (chunk.length < GIVEN_BACK_MIN_BYTES) socket.write(chunk, this.told())
    else socket.write(chunk, (error) => this.wrote(chunk, error))
    if (this.chunked) socket.write('\r\n', 'latin1')
  }

  /** For the socket to call; made when it is first needed: most answers are whole and need none. */
  private told(): () => void {
    return (this.written ??= () => this.settle())
  }

  /** The socket took something: what it does not hold any more is consumed. */
  private settle(): void {
    const taken = this.owed - Math.min(this.owed, this.connection.socket.writableLength)
    if (taken === 0 || this.exchange === undefined) return
    this.owed -= taken
    this.exchange.consumed(taken)
  }

  private wrote(chunk: Uint8Array, error: Error | null | undefined): void {
    if (error === null || error === undefined) giveBack(chunk)
    this.settle()
  }

  data(chunk: Uint8Array): void {
    if (chunk.length === 0 || this.over) return
    if (this.heldHead !== undefined) return this.hold(chunk)
    this.sent += chunk.length
    if (this.bodiless) return this.breaks('a body where none may be')
    if (this.length !== -1 && this.sent > this.length) return this.breaks('more body than Content-Length')
    this.writeBody(chunk)
  }

  end(trailers: Fields): void {
    if (this.over) return
    if (this.heldHead !== undefined) return this.release(true)
    if (this.tunnels) {
      this.over = true
      this.connection.socket.end()
      return
    }
    if (this.length !== -1 && this.sent !== this.length) return this.breaks('less body than Content-Length')
    if (this.chunked) {
      const checked = checkTrailers(trailers)
      if (checked === undefined) return this.breaks('a trailer that is no field')
      let text = '0\r\n'
      for (let i = 0; i < checked.length; i += 2) text += `${checked[i]!}: ${checked[i + 1]!}\r\n`
      this.connection.socket.write(`${text}\r\n`, 'latin1')
    }
    this.done()
  }

  fail(code: ErrorCode, detail: string, retryAfterS?: number): void {
    if (this.over) return
    this.over = true
    this.connection.ingress.report(this.uuid, code, detail)
    if (this.headSent) return void this.connection.socket.destroy()
    this.heldHead = undefined
    this.heldBody = []
    const refusal = refuse(code, this.accept, this.uuid, retryAfterS)
    const head = checkResponseHead(refusal.fields, false)
    if (typeof head === 'string') throw new Error(head)
    // A refused upgrade: see pass().
    if (this.upgrade !== '') this.connection.last = true
    this.headSent = true
    this.chunked = false
    this.writeHead(head, refusal.body.length, this.method === 'HEAD' ? EMPTY : refusal.body, true)
    this.owed = 0
    this.done()
  }

  stopped(): void {
    if (!this.tunnels) this.stoppedReading = true
    // What still comes is dropped; that the visitor leaves would not be seen without reading.
    this.connection.resume()
  }

  drain(): void {
    this.connection.more()
  }

  // -------------------------------------------------------------------------------------------------------------------

  private breaks(detail: string): void {
    this.cancel(errors.agent_protocol)
    this.fail(errors.agent_protocol, detail)
  }

  private cancel(code: ErrorCode): void {
    this.cancelledWith = code
    this.exchange?.cancel(code)
  }

  private done(): void {
    this.over = true
    // The rest of the body is still nginx's to send: read and dropped.
    if (this.bodyLeft === 0) this.connection.finished(this)
    else this.connection.resume()
  }
}

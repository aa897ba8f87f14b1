// One exchange at its origin: the request out of a stream, the answer into it, upgrades included.
import { Readable, type Duplex } from 'node:stream'
import type { Dispatcher, Pool } from 'undici'
import { type ErrorCode, errors, PosternError } from '../protocol/errors.ts'
import { INLINE_BODY_MAX_BYTES, INTERIM_HEADS_MAX_COUNT } from '../protocol/limits.ts'
import type { Fields, Opening, Stream, StreamEvents } from '../protocol/stream.ts'
import { blameAnswer, blameConnect } from './origin-errors.ts'
import { answerFields, answerTrailers, type OriginRequest, textOf } from './origin-fields.ts'
import { Upgraded } from './upgraded.ts'

/** Of an origin: who counts exchanges and hears of their failures. */
export interface ExchangeOwner {
  active: number
  over(): void
  trouble(code: ErrorCode, detail: string): void
}

const NOT_ANY_MORE = new Error('the exchange is over')

export class OriginExchange implements StreamEvents, Dispatcher.DispatchHandler {
  private readonly owner: ExchangeOwner
  private readonly request: OriginRequest
  private readonly stream: Stream
  private controller: Dispatcher.DispatchController | undefined
  /** Bytes of the request's body that came, from OPEN on. */
  private received: number
  private uploaded: boolean
  private body: Readable | undefined
  /** Bytes that came before the origin agreed to the upgrade: they are for whoever speaks the new protocol. */
  private early: Uint8Array[] = []
  private upgraded: Upgraded | undefined
  private interims = 0
  /** A final head that waits for the rest of what came with it. */
  private head: Fields | undefined
  private firstChunks: Buffer[] = []
  private firstBytes = 0
  private answered = false
  private over = false

  constructor(owner: ExchangeOwner, pool: Pool, request: OriginRequest, opening: Opening, stream: Stream) {
    this.owner = owner
    this.request = request
    this.stream = stream
    this.received = opening.body.length
    this.uploaded = opening.ended
    this.checkLength()
    owner.active++
    pool.dispatch(this.options(opening), this)
  }

  // --- the request ---------------------------------------------------------------------------------------------------

  private options(opening: Opening): Dispatcher.DispatchOptions {
    const { method, path, headers, upgrade } = this.request
    // undici would look a name up in the Host field for TLS and drop its connections when it changes; the connector knows the name.
    const options: Dispatcher.DispatchOptions & { servername: string } = { method, path, headers, servername: 'origin' }
    if (upgrade !== undefined) {
      if (opening.body.length > 0) this.early.push(opening.body)
      return { ...options, upgrade }
    }
    if (opening.ended) return opening.body.length === 0 ? options : { ...options, body: opening.body }
    this.body = new Readable({ read: nothing, destroy: (_error, done) => done(null) })
    if (opening.body.length > 0) this.body.push(opening.body)
    return { ...options, body: this.body }
  }

  /** Throws when the body does not fit the length that was announced: such a request is never made to look whole. */
  private checkLength(): void {
    const { length, upgrade } = this.request
    if (length === undefined || upgrade !== undefined) return
    if (this.received > length) throw new PosternError(errors.bad_request, 'the body is longer than Content-Length')
    if (this.uploaded && this.received < length) throw new PosternError(errors.body_incomplete, 'the body is shorter than Content-Length')
  }

  onHead(): void {
    this.fail(errors.protocol_error, 'a head from the opener')
  }

  onData(chunk: Uint8Array): void {
    if (this.upgraded !== undefined) return this.upgraded.write(chunk)
    this.received += chunk.length
    if (this.request.upgrade !== undefined) return void this.early.push(chunk)
    if (this.fits()) this.body!.push(chunk)
  }

  onEnd(): void {
    this.uploaded = true
    if (this.upgraded !== undefined) return this.upgraded.end()
    if (this.request.upgrade === undefined && this.fits()) this.body!.push(null)
  }

  private fits(): boolean {
    try {
      this.checkLength()
      return true
    } catch (error) {
      const { code, message } = error as PosternError
      this.fail(code, message)
      return false
    }
  }

  /** undici wrote a chunk; it asks for no more while the socket is full. */
  onBodySent(chunk: Buffer): void {
    if (!this.over) this.stream.consumed(chunk.length)
  }

  // --- the answer ----------------------------------------------------------------------------------------------------

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller
    if (!this.over) return
    this.owner.over()
    controller.abort(NOT_ANY_MORE)
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (this.over) return
    if (status === 101) throw new PosternError(errors.origin_protocol, 'went over to another protocol unasked')
    const fields = answerFields(status, textOf(controller.rawHeaders as Buffer[]))
    if (status < 200) {
      if (++this.interims > INTERIM_HEADS_MAX_COUNT) throw new PosternError(errors.origin_protocol, 'too many interim answers')
      return this.stream.sendHead(fields, undefined, false)
    }
    this.answered = true
    this.head = fields
    // What came with the head is parsed in this turn still, and rides in its frame if it is little.
    queueMicrotask(() => this.flushHead())
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.over) return
    if (this.head !== undefined) {
      this.firstBytes += chunk.length
      this.firstChunks.push(chunk)
      if (this.firstBytes > INLINE_BODY_MAX_BYTES) this.flushHead()
    } else if (!this.stream.write(chunk)) controller.pause()
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.over) return
    const trailers = answerTrailers(textOf((controller.rawTrailers ?? []) as Buffer[]))
    const head = this.head
    if (head !== undefined && trailers.length === 0) {
      this.head = undefined
      this.stream.sendHead(head, this.firstBody(), true)
    } else {
      this.flushHead()
      this.stream.end(trailers)
    }
    this.finish()
  }

  private flushHead(): void {
    const head = this.head
    if (head === undefined || this.over) return
    this.head = undefined
    const body = this.firstBody()
    const whole = body === undefined || body.length <= INLINE_BODY_MAX_BYTES
    try {
      this.stream.sendHead(head, whole ? body : undefined, false)
    } catch (error) {
      return this.fail(error instanceof PosternError ? errors.origin_head_too_large : errors.gateway_fault, String(error))
    }
    if (!whole && !this.stream.write(body)) this.controller!.pause()
  }

  private firstBody(): Buffer | undefined {
    const [first] = this.firstChunks
    const body = this.firstChunks.length > 1 ? Buffer.concat(this.firstChunks) : first
    this.firstChunks = []
    return body
  }

  onDrain(): void {
    if (this.upgraded !== undefined) this.upgraded.drained()
    else this.controller?.resume()
  }

  onRequestUpgrade(controller: Dispatcher.DispatchController, status: number, headers: unknown, socket: Duplex): void {
    if (this.over) return void socket.destroy()
    const fields = answerFields(status, textOf(controller.rawHeaders as Buffer[]))
    if (!agreed(this.request.upgrade!, headers as { upgrade?: string | string[] })) {
      socket.destroy()
      return this.fail(errors.origin_protocol, 'went over to a protocol that was not asked for')
    }
    this.stream.sendHead(fields, undefined, false)
    this.upgraded = new Upgraded(socket, this.stream, (code) => {
      if (code === undefined) this.finish()
      else this.fail(code, code.says)
    })
    for (const chunk of this.early) this.upgraded.write(chunk)
    this.early = []
    if (this.uploaded) this.upgraded.end()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.over) {
      if (this.controller === undefined) this.owner.over()
      return
    }
    const begun = this.controller !== undefined
    const code = error instanceof PosternError ? error.code : begun ? blameAnswer(error, this.answered) : blameConnect(error)
    this.fail(code.name === 'head_too_large' ? errors.origin_head_too_large : code, error.message)
    // The pool has let go of it: leave() left the count to whoever hears of that.
    if (!begun) this.owner.over()
  }

  // --- the end -------------------------------------------------------------------------------------------------------

  /** The gateway reads no more of the answer: for whom should the origin go on? */
  onStop(code: ErrorCode): void {
    if (this.upgraded !== undefined) return this.upgraded.stopped()
    if (!this.uploaded) this.stream.stop(code)
    this.leave()
  }

  onReset(): void {
    this.leave()
  }

  private fail(code: ErrorCode, detail: string): void {
    if (this.over) return
    this.owner.trouble(code, detail)
    this.stream.reset(code, this.controller !== undefined)
    this.leave()
  }

  /** The answer is complete. Whoever still sends a body is told that nobody reads it. */
  private finish(): void {
    if (this.over) return
    if (!this.uploaded) this.stream.stop(errors.cancelled)
    this.over = true
    this.owner.over()
    this.body?.destroy()
  }

  private leave(): void {
    if (this.over) return
    this.over = true
    // One that waits for a connection stays in the pool's queue until it gets one: it counts as long.
    if (this.controller !== undefined) this.owner.over()
    this.early = []
    this.firstChunks = []
    this.upgraded?.destroy()
    if (this.upgraded === undefined) this.controller?.abort(NOT_ANY_MORE)
    this.body?.destroy()
  }
}

/** Did the origin go over to one of the protocols that the visitor asked for (RFC 9110 §7.8)? */
function agreed(asked: string, headers: { upgrade?: string | string[] }): boolean {
  const offered = asked.toLowerCase().split(',').map((name) => name.trim())
  return [headers.upgrade ?? []].flat().every((name) => offered.includes(name.toLowerCase().trim()))
}

const nothing = (): void => undefined

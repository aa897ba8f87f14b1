// One end of one stream: its state in each direction, what it has queued, its credit (SPEC §10, §11).
import type { Budget } from './credit.ts'
import { Window } from './credit.ts'
import { type ErrorCode, errors, PosternError } from './errors.ts'
import { ACK_MAX_BYTES, DATA_OVERHEAD_BYTES, endContents, frameSize, headContents, writeDataPrefix, writeEnd } from './frames.ts'
import { giveBack } from './give-back.ts'
import { DATA_MAX_BYTES, INLINE_BODY_MAX_BYTES, INTERIM_HEADS_MAX_COUNT, RECORD_PAYLOAD_MAX_BYTES, SEND_QUEUE_BYTES } from './limits.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents, StreamKind } from './stream.ts'

/** One direction of a stream. */
export type DirectionState = 'head' | 'body' | 'ended' | 'stopped'

/** What a stream needs of the lane it keeps to: where its frames go. */
export interface StreamDesk {
  now(): number
  readonly roundTripMs: number
  sendHead(stream: LaneStream, contents: number, fields: Fields, extension: Fields, body: Uint8Array, ended: boolean): void
  sendEnd(stream: LaneStream, trailers: Fields, extension: Fields): void
  sendStop(stream: LaneStream, code: ErrorCode): void
  sendReset(stream: LaneStream, code: ErrorCode, begun: boolean): void
  sendCredit(stream: LaneStream, upTo: number): void
  /** The stream has DATA and credit for it: give it turns. */
  wantsTurn(stream: LaneStream): void
  /** Both directions are over. */
  gone(stream: LaneStream): void
}

/** Standing streams are sealed under every policy and go before others. */
export const isStanding = (kind: StreamKind): boolean => kind === StreamKind.control || kind === StreamKind.status || kind === StreamKind.monitor

const EMPTY = Buffer.alloc(0)
/** A frame with an inlined body shares its record with an ACK. */
const FIRST_FRAME_MAX_BYTES = RECORD_PAYLOAD_MAX_BYTES - ACK_MAX_BYTES

export class LaneStream implements Stream {
  readonly id: number
  readonly standing: boolean
  events: StreamEvents
  sending: DirectionState
  receiving: DirectionState
  /** Is it in the lane's ring of turns, and between whom? */
  inRing = false
  previousInRing: LaneStream | undefined
  nextInRing: LaneStream | undefined
  /** write() said false and the owner waits to hear of room. */
  ownerWaits = false
  isGone = false
  private readonly desk: StreamDesk
  private readonly exchange: boolean
  private readonly window: Window
  /** What we said of our window before the stream's own window was there. */
  private readonly promised: number
  private interimHeads = 0

  private queue: Uint8Array[] = []
  private queuedFrom = 0
  private firstOffset = 0
  private queuedBytes = 0
  private sentBytes = 0
  /** Up to this byte of its direction what is queued is still its owner's. */
  private lentUntil = 0
  private sendLimit: number
  private closing: { readonly trailers: Fields; readonly extension: Fields } | undefined

  constructor(desk: StreamDesk, id: number, kind: StreamKind, opener: boolean, sendLimit: number, promised: number, budget: Budget) {
    this.desk = desk
    this.id = id
    this.standing = isStanding(kind)
    this.exchange = kind === StreamKind.exchange
    this.events = UNBORN
    this.sending = opener ? 'body' : 'head'
    this.receiving = opener ? 'head' : 'body'
    this.sendLimit = sendLimit
    this.promised = promised
    this.window = new Window(budget, desk.now())
  }

  /** Up to which byte the peer may send. */
  get creditGiven(): number {
    return this.window.limit
  }

  // --- the owner's calls ---------------------------------------------------------------------------------------------

  sendHead(fields: Fields, body: Uint8Array | undefined, end: boolean, extension: Fields = NO_FIELDS): void {
    if (this.sending === 'stopped' || this.isGone) return
    if (this.sending !== 'head') throw new Error(`stream ${String(this.id)}: a head while the direction is in ${this.sending}`)
    const interim = this.isInterim(fields)
    if (interim && (end || body !== undefined)) throw new Error('an interim head has neither body nor end')
    const whole = body ?? EMPTY
    const bare = headContents(this.id, fields, extension, 0)
    const inlined = this.inlines(bare, whole.length) ? whole : EMPTY
    const done = end && inlined.length === whole.length
    this.desk.sendHead(this, bare + inlined.length, fields, extension, inlined, done)
    if (interim) return
    this.sending = done ? 'ended' : 'body'
    this.sentBytes = inlined.length
    if (done) this.maybeGone()
    else if (inlined.length < whole.length) this.write(whole)
    if (end && !done) this.end()
  }

  write(chunk: Uint8Array): boolean {
    const room = this.give(chunk)
    this.lentUntil = this.sentBytes + this.queuedBytes
    return room
  }

  give(chunk: Uint8Array): boolean {
    if (this.sending === 'stopped' || this.isGone) return true
    if (this.sending !== 'body' || this.closing !== undefined) throw new Error(`stream ${String(this.id)}: body while the direction is in ${this.sending}`)
    if (chunk.length > 0) {
      this.queue.push(chunk)
      this.queuedBytes += chunk.length
      this.askForTurn()
    }
    this.ownerWaits = this.queuedBytes >= SEND_QUEUE_BYTES
    return !this.ownerWaits
  }

  end(trailers: Fields = NO_FIELDS, extension: Fields = NO_FIELDS): void {
    if (this.sending === 'stopped' || this.isGone) return
    if (this.sending !== 'body' || this.closing !== undefined) throw new Error(`stream ${String(this.id)}: end while the direction is in ${this.sending}`)
    // Measured now, so that trailers over the limit are the caller's error and not found out while a record is made.
    endContents(this.id, trailers, extension)
    if (this.queuedBytes > 0) {
      this.closing = { trailers, extension }
      return
    }
    this.desk.sendEnd(this, trailers, extension)
    this.sending = 'ended'
    this.maybeGone()
  }

  stop(code: ErrorCode): void {
    if (this.isGone || this.receiving === 'ended' || this.receiving === 'stopped') return
    this.receiving = 'stopped'
    this.desk.sendStop(this, code)
    this.maybeGone()
  }

  reset(code: ErrorCode, begun: boolean): void {
    if (this.isGone) return
    this.desk.sendReset(this, code, begun)
    this.leave()
  }

  consumed(bytes: number): void {
    if (this.isGone || this.receiving === 'ended' || this.receiving === 'stopped') return
    if (this.window.consume(bytes, this.desk.now(), this.desk.roundTripMs)) this.desk.sendCredit(this, this.window.limit)
  }

  // --- the opener's first frame --------------------------------------------------------------------------------------

  /** Does a body of so many bytes ride inside a first frame whose contents take `bare` bytes without it? */
  inlines(bare: number, bodyBytes: number): boolean {
    return bodyBytes <= INLINE_BODY_MAX_BYTES && bodyBytes <= this.sendLimit && frameSize(bare + bodyBytes) <= FIRST_FRAME_MAX_BYTES
  }

  /** Queues what of an OPEN's body did not ride inside it. */
  afterOpen(opening: Opening, inlinedBytes: number): void {
    this.sentBytes = inlinedBytes
    if (inlinedBytes === opening.body.length && opening.ended) {
      this.sending = 'ended'
      return
    }
    if (inlinedBytes < opening.body.length) this.write(opening.body)
    if (opening.ended) this.end()
  }

  // --- the lane's calls: sending -------------------------------------------------------------------------------------

  /** Has it DATA that its credit lets go? */
  get ready(): boolean {
    return this.queuedBytes > 0 && this.sentBytes < this.sendLimit
  }

  /** Writes at most `turnBytes` of its body as one DATA frame into `into` before `limit`, and its END behind the last one. Returns the place after it. */
  takeTurn(into: Buffer, at: number, limit: number, turnBytes: number): number {
    const bytes = Math.min(turnBytes, this.queuedBytes, this.sendLimit - this.sentBytes, limit - at - DATA_OVERHEAD_BYTES, DATA_MAX_BYTES)
    at = writeDataPrefix(into, at, this.id, bytes)
    this.dequeue(into, at, bytes)
    at += bytes
    if (this.queuedBytes > 0 || this.closing === undefined) return at
    const { trailers, extension } = this.closing
    const contents = endContents(this.id, trailers, extension)
    if (at + frameSize(contents) <= limit) at = writeEnd(into, at, contents, this.id, trailers, extension)
    else this.desk.sendEnd(this, trailers, extension)
    this.closing = undefined
    this.sending = 'ended'
    this.maybeGone()
    return at
  }

  private dequeue(into: Buffer, at: number, bytes: number): void {
    this.queuedBytes -= bytes
    while (bytes > 0) {
      const chunk = this.queue[this.queuedFrom]!
      const part = Math.min(bytes, chunk.length - this.firstOffset)
      into.set(part === chunk.length ? chunk : chunk.subarray(this.firstOffset, this.firstOffset + part), at)
      at += part
      bytes -= part
      this.sentBytes += part
      this.firstOffset += part
      if (this.firstOffset === chunk.length) {
        if (this.sentBytes > this.lentUntil) giveBack(chunk)
        this.queue[this.queuedFrom++] = EMPTY
        this.firstOffset = 0
      }
    }
    if (this.queuedFrom === this.queue.length) {
      this.queue.length = 0
      this.queuedFrom = 0
    }
  }

  /** True once when an owner that waits may go on. */
  hasRoom(): boolean {
    if (!this.ownerWaits || this.queuedBytes > SEND_QUEUE_BYTES / 2 || this.sending !== 'body') return false
    this.ownerWaits = false
    return true
  }

  private askForTurn(): void {
    if (!this.inRing && this.ready) this.desk.wantsTurn(this)
  }

  // --- the lane's calls: receiving -----------------------------------------------------------------------------------

  receiveHead(fields: Fields, extension: Fields, body: Buffer, ended: boolean): void {
    if (this.receiving === 'stopped') return
    if (this.receiving !== 'head') throw this.wrong('a head', this.receiving)
    if (this.isInterim(fields)) {
      if (ended || body.length > 0) throw this.wrong('an interim head with a body', 'head')
      if (++this.interimHeads > INTERIM_HEADS_MAX_COUNT) throw this.wrong('too many interim heads', 'head')
      this.events.onHead(fields, extension, body, false)
      return
    }
    this.count(body.length)
    this.receiving = ended ? 'ended' : 'body'
    this.events.onHead(fields, extension, body, ended)
    if (ended) this.maybeGone()
  }

  receiveData(chunk: Buffer): void {
    if (this.receiving === 'stopped') return
    if (this.receiving !== 'body') throw this.wrong('body', this.receiving)
    if (chunk.length === 0 || chunk.length > DATA_MAX_BYTES) throw this.wrong(`a DATA frame of ${String(chunk.length)} bytes`, this.receiving)
    this.count(chunk.length)
    this.events.onData(chunk)
  }

  receiveEnd(trailers: Fields, extension: Fields): void {
    if (this.receiving === 'stopped') return
    if (this.receiving !== 'body') throw this.wrong('an end', this.receiving)
    this.receiving = 'ended'
    this.events.onEnd(trailers, extension)
    this.maybeGone()
  }

  receiveStop(code: ErrorCode): void {
    if (this.sending === 'ended' || this.sending === 'stopped') return
    this.sending = 'stopped'
    this.dropQueue()
    this.events.onStop(code)
    this.maybeGone()
  }

  receiveReset(code: ErrorCode, begun: boolean): void {
    // The end of a session resets all its streams; the owner of one may have reset another when it heard of its own.
    if (this.isGone) return
    this.leave()
    this.events.onReset(code, begun)
  }

  receiveCredit(upTo: number): void {
    if (upTo <= this.sendLimit) return
    this.sendLimit = upTo
    this.askForTurn()
  }

  /** Counts a body that came in OPEN. */
  receiveOpening(opening: Opening): void {
    this.count(opening.body.length)
    if (opening.ended) this.receiving = 'ended'
  }

  private count(bytes: number): void {
    if (!this.window.receive(bytes, this.promised)) throw new PosternError(errors.protocol_error, `stream ${String(this.id)}: body beyond its credit`)
  }

  private isInterim(fields: Fields): boolean {
    return this.exchange && fields[0] === ':status' && fields[1]!.length === 3 && fields[1]!.startsWith('1') && fields[1] !== '101'
  }

  private wrong(what: string, state: DirectionState): PosternError {
    return new PosternError(errors.protocol_error, `stream ${String(this.id)}: ${what} while the direction is in ${state}`)
  }

  // --- the end -------------------------------------------------------------------------------------------------------

  private maybeGone(): void {
    if ((this.sending === 'ended' || this.sending === 'stopped') && (this.receiving === 'ended' || this.receiving === 'stopped')) this.leave()
  }

  /** Gives back what the stream holds; its desk hears of it. */
  leave(): void {
    if (this.isGone) return
    this.isGone = true
    this.dropQueue()
    this.window.release()
    this.desk.gone(this)
  }

  private dropQueue(): void {
    this.queue = []
    this.queuedFrom = 0
    this.firstOffset = 0
    this.queuedBytes = 0
    this.closing = undefined
    this.ownerWaits = false
  }
}

const nothing = (): void => undefined
/** Until the owner is known there is nobody to tell. */
const UNBORN: StreamEvents = { onHead: nothing, onData: nothing, onEnd: nothing, onStop: nothing, onReset: nothing, onDrain: nothing }

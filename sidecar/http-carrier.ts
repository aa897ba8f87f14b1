// The gateway's end of an http channel, whatever brings its messages down: which requests are its agent's, and the messages that come up (SPEC §14).
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Carrier } from '../protocol/channel.ts'
import type { ChannelProof } from '../protocol/channel-proof.ts'
import type { Clock } from '../protocol/clock.ts'
import { BODY_MAX_BYTES, type ChannelField, hashOf, readBody, WaitingMessages } from '../protocol/http-channel.ts'
import { SENT_WHILE_FULL_MAX_COUNT } from '../protocol/limits.ts'
import type { Arrival } from './arrival.ts'
import { NO_CONTENT, type Refusal, refuse } from './http-answers.ts'
import type { Stranger } from './strangers.ts'

/** Bytes that wait to leave beyond which the lanes keep their records: enough for a full answer a turn, little for an urgent frame to wait behind. */
const QUEUE_BYTES = 256 * 1024
/** How long what was sent before a close may take to leave. */
const CLOSE_TIMEOUT_MS = 5_000

export type Method = 'GET' | 'POST'

export interface HttpCarrierFacts {
  readonly id: string
  readonly arrival: Arrival
  readonly clock: Clock
  /** Told once it is over. `crossed`: it was closed, and what the agent said before it heard of that may still come. */
  readonly onGone: (crossed: boolean) => void
}

export abstract class HttpCarrier implements Carrier {
  abstract readonly kind: string
  readonly id: string
  readonly quiet = true
  readonly peer: string
  worker: number
  onMessage: (message: Buffer) => void = nobody
  onDrain: () => void = nobody
  onClosed: (reason: string) => void = nobody
  /** Set before any request comes. */
  stranger: Stranger | undefined
  protected readonly waiting = new WaitingMessages()
  protected readonly clock: Clock
  protected closing = false
  protected closed = false
  private readonly onGone: (crossed: boolean) => void
  private proof: ChannelProof | undefined
  /** The counter that the next request of each method bears. */
  private readonly next: Record<Method, number> = { GET: 0, POST: 0 }
  /** Something was handed down since the channel is a session's: whoever asks now has the key. */
  private handedBound = false
  private posting = false
  private flushing = false
  private full = false
  private sentWhileFull = 0
  private cancelClose: (() => void) | undefined

  constructor(facts: HttpCarrierFacts) {
    this.id = facts.id
    this.peer = facts.arrival.peer
    this.worker = facts.arrival.worker
    this.clock = facts.clock
    this.onGone = facts.onGone
  }

  bind(proof: ChannelProof): void {
    this.proof = proof
  }

  // What is taken of it is copied into a body.
  get queuedBytes(): number {
    return this.waiting.bytes
  }

  send(message: Buffer): boolean {
    if (this.closing || this.closed) return true
    this.waiting.add(message)
    this.flushSoon()
    // Once full it is full until onDrain: a small message sent meanwhile takes nothing back, or nobody would ever be told.
    if (this.waiting.bytes + this.leavingBytes >= QUEUE_BYTES) this.full = true
    if (this.full && ++this.sentWhileFull > SENT_WHILE_FULL_MAX_COUNT) this.abort()
    return !this.full
  }

  close(): void {
    if (this.closing || this.closed) return
    this.closing = true
    this.cancelClose = this.clock.later(CLOSE_TIMEOUT_MS, () => this.gone('closed, and the agent did not take the last of it'))
    this.flush()
  }

  abort(): void {
    this.gone('aborted')
  }

  /** May this request of its be taken? It counts if so. A POST counts once its body is proved too. */
  judge(method: Method, field: ChannelField): Refusal | undefined {
    if (!this.isProved(method, field)) return { status: 403, reason: 'the MAC is wrong' }
    if (method === 'POST' ? this.posting : this.polling) return { status: 409, reason: `there is a ${method} under way` }
    const next = this.next[method]
    if (field.counter < next) return { status: 409, reason: `${method} ${String(field.counter)} was had` }
    if (field.counter > next) {
      this.gone(`${method} ${String(field.counter)} came where ${String(next)} was due: something was lost`)
      return { status: 409, reason: `${method} ${String(next)} was lost` }
    }
    if (method === 'GET') this.next.GET++
    return undefined
  }

  /** A POST that {@link judge} takes: its messages are delivered once its body is whole and the one that was announced. */
  post(request: IncomingMessage, response: ServerResponse, field: ChannelField): void {
    this.posting = true
    let reading = true
    const chunks: Buffer[] = []
    let bytes = 0
    const stop = (): void => {
      reading = false
      this.posting = false
    }
    request.on('data', (chunk: Buffer) => {
      if (!reading) return
      bytes += chunk.length
      this.stranger?.heard(chunk.length)
      if (bytes <= BODY_MAX_BYTES) return void chunks.push(chunk)
      stop()
      refuse(request, response, TOO_LARGE)
    })
    request.on('end', () => {
      if (!reading) return
      stop()
      this.posted(request, response, field, chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, bytes))
    })
    request.on('close', () => {
      if (reading) this.gone('the connection broke within a POST')
    })
  }

  private posted(request: IncomingMessage, response: ServerResponse, field: ChannelField, body: Buffer): void {
    if (!hashOf(body).equals(field.bodyHash)) return refuse(request, response, { status: 403, reason: 'the hash is not of this body' })
    this.next.POST++
    response.writeHead(204, NO_CONTENT).end()
    const isOpen = (): boolean => !this.closing && !this.closed
    const wrong = readBody(body, (message) => {
      if (isOpen()) this.onMessage(message)
      return isOpen()
    })
    if (wrong !== undefined) this.gone(wrong)
  }

  // A GET that left before the agent had the key may come after it has it; as soon as one brought the welcome, the agent has it.
  private isProved(method: Method, field: ChannelField): boolean {
    if (this.proof === undefined) return true
    if (field.mac.length === 0) return method === 'GET' && !this.handedBound
    return this.proof.check(method, field.counter, field.bodyHash, field.mac)
  }

  /** Is a GET under way? */
  protected abstract get polling(): boolean
  /** Bytes that were handed down and have not left yet. */
  protected abstract get leavingBytes(): number
  /** Hands down what waits, as far as it can; says {@link gone} when it is closing and nothing waits any more. */
  protected abstract flush(): void
  /** Ends what is under way. */
  protected abstract cut(): void

  /** What waits, as far as it fits, as a body. */
  protected take(maxBytes: number): Buffer {
    this.handedBound = this.proof !== undefined
    return this.waiting.take(maxBytes)
  }

  protected drained(): void {
    this.sentWhileFull = 0
    if (!this.full) return
    this.full = false
    if (!this.closing && !this.closed) this.onDrain()
  }

  protected gone(reason: string): void {
    if (this.closed) return
    this.closed = true
    this.waiting.drop()
    this.cut()
    this.cancelClose?.()
    this.stranger?.left()
    this.onGone(this.closing)
    this.onClosed(reason)
  }

  // All that is said in a turn leaves together.
  private flushSoon(): void {
    if (this.flushing) return
    this.flushing = true
    this.clock.soon(() => {
      this.flushing = false
      if (!this.closed) this.flush()
    })
  }
}

export const TOO_LARGE: Refusal = { status: 413, reason: `a body is at most ${String(BODY_MAX_BYTES)} bytes` }

function nobody(): void {}

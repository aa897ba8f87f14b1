// The agent's end of an http channel, whatever brings its messages down: one POST at a time with all that waits, each with its proof (SPEC §14).
import type { Carrier } from '../protocol/channel.ts'
import type { ChannelProof } from '../protocol/channel-proof.ts'
import { encodeField, hashOf, NO_BODY_HASH, NO_MAC, Resource, WaitingMessages } from '../protocol/http-channel.ts'
import { SENT_WHILE_FULL_MAX_COUNT } from '../protocol/limits.ts'
import { MessageReader } from '../protocol/message-reader.ts'
import { SOCKET_QUEUE_MAX_BYTES } from './channel-dial.ts'
import type { Ask, HttpRequests } from './http-requests.ts'
import { PostSize } from './post-size.ts'

/** How long what was sent before a close may take to leave. */
const CLOSE_TIMEOUT_MS = 5_000

export abstract class HttpCarrier implements Carrier {
  abstract readonly kind: string
  readonly quiet = true
  readonly peer: string
  /** An agent does not know the workers of the nginx before its gateway. */
  readonly worker = 0
  onMessage: (message: Buffer) => void = nothing
  onDrain: () => void = nothing
  onClosed: (reason: string) => void = nothing
  protected readonly requests: HttpRequests
  protected closed = false
  private readonly id: string
  private readonly waiting = new WaitingMessages()
  private readonly reader = new MessageReader()
  private readonly postSize = new PostSize()
  private readonly counters = { GET: 0, POST: 0 }
  private proof: ChannelProof | undefined
  private posting = false
  private flushing = false
  private full = false
  private sentWhileFull = 0
  private closing = false
  private closeTimer: NodeJS.Timeout | undefined

  constructor(requests: HttpRequests, id: string) {
    this.requests = requests
    this.peer = requests.host
    this.id = id
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
    if (this.waiting.bytes >= SOCKET_QUEUE_MAX_BYTES) this.full = true
    if (this.full && ++this.sentWhileFull > SENT_WHILE_FULL_MAX_COUNT) this.abort()
    return !this.full
  }

  close(): void {
    if (this.closing || this.closed) return
    this.closing = true
    this.closeTimer = setTimeout(() => this.gone('closed, and the gateway did not take the last of it'), CLOSE_TIMEOUT_MS)
    this.flush()
  }

  abort(): void {
    this.gone('aborted')
  }

  /** The next request of that method to the channel's messages. */
  protected next(method: 'GET' | 'POST', body?: Buffer): Ask {
    const counter = this.counters[method]++
    const bodyHash = body === undefined ? NO_BODY_HASH : hashOf(body)
    const mac = this.proof === undefined ? NO_MAC : this.proof.mac(method, counter, bodyHash)
    const ask: Ask = { method, resource: Resource.messages, field: encodeField({ id: this.id, counter, bodyHash, mac }) }
    return body === undefined ? ask : { ...ask, body }
  }

  /** A part of a body came down. */
  protected received(part: Buffer): void {
    this.reader.push(part)
    while (!this.closing && !this.closed) {
      const message = this.reader.next()
      if (message === undefined) return
      if (typeof message === 'number') return this.gone(`a message of ${String(message)} bytes`)
      this.onMessage(message)
    }
  }

  /** That was the last part of it. */
  protected bodyEnded(): void {
    if (this.reader.amid && !this.closing) this.gone('a body that ends within a message')
  }

  protected gone(reason: string): void {
    if (this.closed) return
    this.closed = true
    clearTimeout(this.closeTimer)
    this.requests.end()
    this.waiting.drop()
    // Whoever aborts is not called back amid it.
    setImmediate(() => this.onClosed(reason))
  }

  // All that is said in a turn leaves together.
  private flushSoon(): void {
    if (this.flushing || this.posting) return
    this.flushing = true
    setImmediate(() => {
      this.flushing = false
      if (!this.closed) this.flush()
    })
  }

  private flush(): void {
    if (this.posting) return
    if (this.waiting.count === 0) {
      if (this.closing) this.gone('closed')
      return
    }
    this.posting = true
    const body = this.waiting.take(this.postSize.bytes)
    const began = performance.now()
    this.requests.whole('up', this.next('POST', body), undefined, true, (outcome) => {
      if ('reason' in outcome) return this.gone(outcome.detail)
      this.postSize.took(body.length, performance.now() - began)
      this.posting = false
      this.flush()
    })
    if (!this.full || this.waiting.bytes >= SOCKET_QUEUE_MAX_BYTES) return
    this.full = false
    this.sentWhileFull = 0
    if (!this.closing) this.onDrain()
  }
}

const nothing = (): void => undefined

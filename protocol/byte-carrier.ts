// A carrier over a transport of bytes: each message after its length as u24 (SPEC §2). Bytes in, messages out, and the other way.
import type { Carrier } from './channel.ts'
import { SENT_WHILE_FULL_MAX_COUNT } from './limits.ts'
import { LENGTH_BYTES, MessageReader } from './message-reader.ts'

/** What it needs of a socket: a part of Node's Duplex. */
export interface ByteSocket {
  readonly writableLength: number
  cork(): void
  uncork(): void
  write(bytes: Buffer): boolean
  end(then: () => void): unknown
  destroy(): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'drain' | 'end' | 'close', listener: () => void): unknown
}

export interface ByteCarrierFacts {
  readonly kind: string
  readonly peer: string
  readonly worker: number
  /** Bytes in the socket beyond which `send` says stop. */
  readonly queueMaxBytes: number
  /** The socket looks at no chunk any more that it has handed out, as Node's net and tls: where nothing else lies in its memory, that may be given back. */
  readonly givesChunks: boolean
}

export class ByteCarrier implements Carrier {
  readonly kind: string
  readonly peer: string
  readonly worker: number
  onMessage: (message: Buffer) => void = nobody
  onDrain: () => void = nobody
  onClosed: (reason: string) => void = nobody
  private readonly socket: ByteSocket
  private readonly queueMaxBytes: number
  private readonly reader = new MessageReader()
  private waits = false
  private sentWhileFull = 0
  private closing = false
  private closed = false

  constructor(facts: ByteCarrierFacts, socket: ByteSocket) {
    this.kind = facts.kind
    this.peer = facts.peer
    this.worker = facts.worker
    this.queueMaxBytes = facts.queueMaxBytes
    this.socket = socket
    socket.on('data', (chunk) => this.received(chunk, facts.givesChunks))
    socket.on('drain', () => this.drained())
    // A channel has no half-close.
    socket.on('end', () => {
      socket.destroy()
      this.ended('the peer closed the connection')
    })
    socket.on('error', (error) => this.ended(error.message))
    socket.on('close', () => this.ended('the connection was closed'))
  }

  get queuedBytes(): number {
    return this.socket.writableLength
  }

  send(message: Buffer): boolean {
    if (this.closing || this.closed) return true
    const length = Buffer.allocUnsafe(LENGTH_BYTES)
    length.writeUIntBE(message.length, 0, LENGTH_BYTES)
    this.socket.cork()
    this.socket.write(length)
    this.socket.write(message)
    this.socket.uncork()
    // Once full it is full until onDrain: a small message sent meanwhile takes nothing back, or nobody would ever be told.
    if (this.socket.writableLength >= this.queueMaxBytes) this.waits = true
    if (this.waits && ++this.sentWhileFull > SENT_WHILE_FULL_MAX_COUNT) this.abort()
    return !this.waits
  }

  close(): void {
    if (this.closing || this.closed) return
    this.closing = true
    this.socket.end(() => this.socket.destroy())
  }

  abort(): void {
    this.closing = true
    this.socket.destroy()
  }

  /** Bytes came: the socket's own, or some that were read before it was handed over. A message that lies whole in `chunk` is a view of it. */
  received(chunk: Buffer, given = false): void {
    this.reader.push(chunk, given)
    while (!this.closing && !this.closed) {
      const message = this.reader.next()
      if (message === undefined) return
      if (typeof message === 'number') return this.broken(`a message of ${String(message)} bytes`)
      this.onMessage(message)
    }
  }

  private drained(): void {
    this.sentWhileFull = 0
    if (!this.waits || this.closing || this.closed) return
    this.waits = false
    this.onDrain()
  }

  private ended(reason: string): void {
    if (this.closed) return
    this.closed = true
    this.onClosed(reason)
  }

  private broken(reason: string): void {
    this.abort()
    this.ended(reason)
  }
}

function nobody(): void {}

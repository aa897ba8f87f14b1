// A carrier over a transport of bytes: each message after its length as u24 (SPEC §2). Bytes in, messages out, and the other way.
import type { Carrier } from './channel.ts'
import { MESSAGE_MAX_BYTES } from './limits.ts'

const LENGTH_BYTES = 3

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
  /** Of a message: what came of its length, or the message itself as far as it came. */
  private length = 0
  private lengthBytes = 0
  private message: Buffer | undefined
  private messageBytes = 0
  private waits = false
  private closing = false
  private closed = false

  constructor(facts: ByteCarrierFacts, socket: ByteSocket) {
    this.kind = facts.kind
    this.peer = facts.peer
    this.worker = facts.worker
    this.queueMaxBytes = facts.queueMaxBytes
    this.socket = socket
    socket.on('data', (chunk) => this.received(chunk))
    socket.on('drain', () => this.drained())
    // A channel has no half-close.
    socket.on('end', () => {
      socket.destroy()
      this.ended('the peer closed the connection')
    })
    socket.on('error', (error) => this.ended(error.message))
    socket.on('close', () => this.ended('the connection was closed'))
  }

  send(message: Buffer): boolean {
    if (this.closing || this.closed) return true
    const length = Buffer.allocUnsafe(LENGTH_BYTES)
    length.writeUIntBE(message.length, 0, LENGTH_BYTES)
    this.socket.cork()
    this.socket.write(length)
    this.socket.write(message)
    this.socket.uncork()
    if (this.socket.writableLength >= this.queueMaxBytes) this.waits = true
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
  received(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length && !this.closing && !this.closed) {
      if (this.message !== undefined) at += this.fill(this.message, chunk, at)
      else if (this.lengthBytes < LENGTH_BYTES) {
        this.length = this.length * 256 + chunk[at++]!
        if (++this.lengthBytes === LENGTH_BYTES && (this.length === 0 || this.length > MESSAGE_MAX_BYTES)) return this.broken(`a message of ${String(this.length)} bytes`)
      } else if (chunk.length - at >= this.length) {
        const whole = chunk.subarray(at, at + this.length)
        at += this.length
        this.deliver(whole)
      } else this.message = Buffer.allocUnsafe(this.length)
    }
  }

  private drained(): void {
    if (!this.waits || this.closing || this.closed) return
    this.waits = false
    this.onDrain()
  }

  private ended(reason: string): void {
    if (this.closed) return
    this.closed = true
    this.onClosed(reason)
  }

  private fill(message: Buffer, chunk: Buffer, at: number): number {
    const part = Math.min(message.length - this.messageBytes, chunk.length - at)
    chunk.copy(message, this.messageBytes, at, at + part)
    this.messageBytes += part
    if (this.messageBytes === message.length) {
      this.message = undefined
      this.messageBytes = 0
      this.deliver(message)
    }
    return part
  }

  private deliver(message: Buffer): void {
    this.length = 0
    this.lengthBytes = 0
    this.onMessage(message)
  }

  private broken(reason: string): void {
    this.abort()
    this.ended(reason)
  }
}

function nobody(): void {}

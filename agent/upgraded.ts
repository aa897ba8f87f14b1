// Raw bytes between a stream and an origin's socket after a 101, half-close kept in both directions.
import type { Duplex } from 'node:stream'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Stream } from '../protocol/stream.ts'

export class Upgraded {
  private readonly socket: Duplex
  private readonly stream: Stream
  private readonly onOver: (failure: ErrorCode | undefined) => void
  /** Taken by the socket's queue while it was full: credit for it is given when that is empty again. */
  private owed = 0
  private inEnded = false
  private outEnded = false
  /** The peer reads no more of what comes from the origin. */
  private deaf = false
  private over = false

  /** `onOver` is called once, without a failure when both directions are complete. */
  constructor(socket: Duplex, stream: Stream, onOver: (failure: ErrorCode | undefined) => void) {
    this.socket = socket
    this.stream = stream
    this.onOver = onOver
    socket.on('data', (chunk: Buffer) => {
      if (!this.deaf && !this.over && !stream.give(chunk)) socket.pause()
    })
    socket.on('end', () => {
      this.inEnded = true
      if (!this.deaf && !this.over) stream.end()
      this.maybeOver()
    })
    socket.on('drain', () => {
      if (!this.over) stream.consumed(this.owed)
      this.owed = 0
    })
    socket.on('finish', () => {
      this.outEnded = true
      this.maybeOver()
    })
    socket.on('error', () => this.leave(errors.origin_reset))
    socket.on('close', () => this.leave(errors.origin_reset))
  }

  /** Bytes from the peer. */
  write(chunk: Uint8Array): void {
    if (this.over) return
    if (this.socket.write(chunk)) this.stream.consumed(chunk.length)
    else this.owed += chunk.length
  }

  end(): void {
    this.socket.end()
  }

  drained(): void {
    this.socket.resume()
  }

  stopped(): void {
    this.deaf = true
    this.socket.resume()
  }

  destroy(): void {
    this.over = true
    this.socket.destroy()
  }

  private maybeOver(): void {
    if (this.inEnded && this.outEnded) this.leave(undefined)
  }

  private leave(failure: ErrorCode | undefined): void {
    if (this.over) return
    this.over = true
    this.onOver(failure)
    this.socket.destroy()
  }
}

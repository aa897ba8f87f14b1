// An HTTP/2 stream that has its connection to itself, as a socket of bytes: whatever ends the one ends the other (SPEC §2).
import type { ByteSocket } from './byte-carrier.ts'

/** How long the peer may take to end its half, once ours has ended, before the connection is cut. */
const CLOSE_TIMEOUT_MS = 5_000
/**
 * What a peer may have under way, on the stream and on the connection. 25 MB/s at a round trip of 50 ms are 1.25 MB, and Node grants more only when half
 * of the window is used up, so twice that is the least; nginx grants as much with the `client_body_buffer_size 4m` of postern-agents.conf.
 */
export const HTTP2_WINDOW_BYTES = 4 * 1024 * 1024

/**
 * What a gateway's body begins with: an empty message, which says nothing. nginx 1.22 keeps the head of an answer in its TLS buffer until some body
 * follows, and it is not the only one that does; the agent waits for that head before it says anything.
 */
export const HTTP2_GREETING = Buffer.alloc(3)

/** What it needs of Node's Http2Stream. */
export interface Http2StreamPart extends Omit<ByteSocket, 'end'> {
  readonly readableEnded: boolean
  readonly writableEnded: boolean
  end(then?: () => void): unknown
}

/** What it needs of Node's Http2Session. */
export interface Http2SessionPart {
  /** Ends when its streams have. */
  close(): void
  destroy(): void
  once(event: 'close', listener: () => void): unknown
}

export class Http2Socket implements ByteSocket {
  private readonly stream: Http2StreamPart
  private readonly session: Http2SessionPart
  private readonly later: (ms: number, then: () => void) => () => void
  private greetingBytes: number
  private leaving = false

  /** `later`: a timer, and how to take it back. `greetingBytes`: so many are passed over before what is to be read. */
  constructor(stream: Http2StreamPart, session: Http2SessionPart, later: (ms: number, then: () => void) => () => void, greetingBytes = 0) {
    this.stream = stream
    this.session = session
    this.later = later
    this.greetingBytes = greetingBytes
  }

  get writableLength(): number {
    return this.stream.writableLength
  }

  cork(): void {
    this.stream.cork()
  }

  uncork(): void {
    this.stream.uncork()
  }

  write(bytes: Buffer): boolean {
    return this.stream.write(bytes)
  }

  end(then: () => void): void {
    this.stream.end(then)
  }

  /** A stream whose end was said, by whichever side, ends in order, so that nothing in between takes it for broken; others are cut. */
  destroy(): void {
    if (this.leaving) return
    this.leaving = true
    if (!this.stream.readableEnded && !this.stream.writableEnded) return this.session.destroy()
    if (!this.stream.writableEnded) this.stream.end()
    const cancel = this.later(CLOSE_TIMEOUT_MS, () => this.session.destroy())
    this.session.once('close', cancel)
    this.session.close()
  }

  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'drain' | 'end' | 'close', listener: () => void): unknown
  on(event: 'data' | 'error' | 'drain' | 'end' | 'close', listener: (what: never) => void): unknown {
    if (event === 'data') return this.stream.on(event, (chunk) => this.read(chunk, listener as (chunk: Buffer) => void))
    return (this.stream.on as (event: string, listener: (what: never) => void) => unknown).call(this.stream, event, listener)
  }
  private read(chunk: Buffer, listener: (chunk: Buffer) => void): void {
    const passed = Math.min(this.greetingBytes, chunk.length)
    this.greetingBytes -= passed
    if (passed < chunk.length) listener(passed === 0 ? chunk : chunk.subarray(passed))
  }
}

// The contract of a stream: what its owner may do with it and what it tells its owner (SPEC §10).
import type { ErrorCode } from './errors.ts'

/**
 * Fields in order, flat: name, value, name, value, … Each string holds bytes as latin1. Pseudo-fields (`:method`,
 * `:scheme`, `:authority`, `:path`, `:protocol`, `:status`) stand first. Names keep the case they came in.
 */
export type Fields = readonly string[]

export const NO_FIELDS: Fields = []

/** What a stream is for. */
export const StreamKind = { exchange: 0, control: 1, status: 2, monitor: 3, tcp: 4 } as const
export type StreamKind = (typeof StreamKind)[keyof typeof StreamKind]

/** How a stream begins: the contents of OPEN. */
export interface Opening {
  readonly kind: StreamKind
  /** The command uuid: 32 lower-case hexadecimal digits. */
  readonly uuid: string
  readonly service: string
  readonly fields: Fields
  readonly extension: Fields
  /** The body so far: whole if `ended`, else what the sender inlined (may be empty). Give it back with `consumed`. */
  readonly body: Uint8Array
  /** The opener sends nothing more in its direction. */
  readonly ended: boolean
}

/**
 * What a stream tells its owner. Calls come in the turn in which the bytes arrive; chunks are good for as long as
 * the owner keeps them, and hold at most four times their own memory. Nothing is called after onReset, nor after the owner's own reset().
 */
export interface StreamEvents {
  /** A head: interim ones (status 1xx but 101), then the final one. With `ended` the whole message is here. */
  onHead(fields: Fields, extension: Fields, body: Uint8Array, ended: boolean): void
  onData(chunk: Uint8Array): void
  /** The peer's direction is complete. */
  onEnd(trailers: Fields, extension: Fields): void
  /** The peer reads no more of what we send: drop it, send no more. Our direction is over. */
  onStop(code: ErrorCode): void
  /** The stream is gone in both directions. `begun`: the peer had begun to act on it. */
  onReset(code: ErrorCode, begun: boolean): void
  /** write() may go on after it said false. */
  onDrain(): void
}

/** One end of a stream. Calls that the state does not allow (write after end, say) throw: they are the owner's mistake. */
export interface Stream {
  readonly id: number
  /** Sends a head; `body` and `end` make it a whole message in one frame when the body is small. */
  sendHead(fields: Fields, body: Uint8Array | undefined, end: boolean, extension?: Fields): void
  /** Queues a chunk (not copied: do not touch it afterwards). False: wait for onDrain. After the peer's STOP it is dropped. */
  write(chunk: Uint8Array): boolean
  /** The same for a chunk that nobody else looks at any more: its memory may go as soon as it has been sent. */
  give(chunk: Uint8Array): boolean
  /** Completes our direction, after all that is queued. */
  end(trailers?: Fields, extension?: Fields): void
  /** We read no more of the peer's direction; what still comes of it is dropped. */
  stop(code: ErrorCode): void
  /** Ends the stream in both directions at once. `begun`: we had begun to act on it. No event follows. */
  reset(code: ErrorCode, begun: boolean): void
  /** So many body bytes were taken by the consumer: the peer may send as many more. */
  consumed(bytes: number): void
}

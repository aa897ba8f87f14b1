// The contract between an ingress and the gateway library: one exchange carried to an agent and its answer back.
import type { ErrorCode } from '../protocol/errors.ts'
import type { Fields } from '../protocol/stream.ts'

/** A request as an ingress hands it over, its head already checked and cleaned of hop-by-hop fields. */
export interface Request {
  /** Command uuid, 32 lower-case hexadecimal digits. */
  readonly uuid: string
  readonly service: string
  /** `:method`, `:scheme`, `:authority`, `:path`, for an upgrade `:protocol`, then the fields in order. */
  readonly fields: Fields
  /** The visitor's address, '' if unknown. */
  readonly address: string
  /** The nginx worker ($pid) it came through, 0 if unknown. */
  readonly worker: number
}

/** What an ingress does with the answer. Called in the turn in which it arrives. Nothing is called after `end`, `fail` or the ingress's own `cancel`. */
export interface Answer {
  /** An interim head (1xx but 101), already checked. */
  interim(fields: Fields): void
  /** The final head, not yet checked: `:status` first. With `ended` the body is whole. */
  head(fields: Fields, body: Uint8Array, ended: boolean): void
  data(chunk: Uint8Array): void
  end(trailers: Fields): void
  /** Before a head: the visitor gets this error's answer. After it: the body must visibly break. */
  fail(code: ErrorCode, detail: string, retryAfterS?: number): void
  /** The agent reads no more of the request body: drop the rest, take it from nginx all the same. */
  stopped(): void
  /** write() may go on. */
  drain(): void
}

/** The ingress's handle on an exchange under way. */
export interface Exchange {
  /** The id of the agent it was sent to last, a token; '' if none yet. */
  readonly agent: string
  /** More of the request body (not copied). False: wait for `drain`. */
  write(chunk: Uint8Array): boolean
  /** The same for a chunk that nobody else looks at any more: its memory may go as soon as it has been sent. */
  give(chunk: Uint8Array): boolean
  /** The request body is complete. */
  end(trailers?: Fields): void
  /** So many bytes of the answer's body (those inlined in `head` too) were taken by nginx. */
  consumed(bytes: number): void
  /** The visitor left, or broke the rules (`code`): the agent is told at once. */
  cancel(code: ErrorCode): void
}

/** `body`: what of the body is there already; `complete`: that is all of it. The answer may be called before this returns. */
export type Carry = (request: Request, body: Uint8Array, complete: boolean, answer: Answer) => Exchange

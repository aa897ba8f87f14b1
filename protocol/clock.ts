// Time as protocol/ gets it: passed in, so that a test can turn it by hand.

export interface Clock {
  /** Milliseconds on a clock that never goes back. */
  now(): number
  /** Calls `then` after `ms`; the function it returns takes that back. */
  later(ms: number, then: () => void): () => void
  /** Calls `then` once, at the end of this turn of the event loop. */
  soon(then: () => void): void
}

// What protocol/ gets from the process it runs in: time, randomness, memory to pay windows from, and how long it waits.
import type { Clock } from './clock.ts'
import type { Budget } from './credit.ts'

export interface Times {
  /** Each end asks the other for a sign of life this often on every channel. */
  readonly heartbeatMs: number
  /** A channel over which nothing came for so long is dead. */
  readonly deadAfterMs: number
  /** How long a session without any channel waits for the next one. */
  readonly graceMs: number
  readonly handshakeMs: number
}

export interface Environment {
  readonly clock: Clock
  /** So many bytes from a cryptographic source. */
  random(bytes: number): Buffer
  /** The process's budget: the growth of every session's windows is paid from it. */
  readonly budget: Budget
  readonly times: Times
}

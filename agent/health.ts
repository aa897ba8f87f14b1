// Whether an origin is well: it is asked again and again, and its word counts when it was the same often enough.
import type { Clock } from '../protocol/clock.ts'
import type { HealthCheck } from '../protocol/control.ts'
import { dial } from './origin-socket.ts'
import type { Target } from './target.ts'

/** What a check does not say. Three failures of 10 s: a restart of an origin is no illness. */
const DEFAULTS = { path: '/', interval_ms: 10_000, timeout_ms: 2_000, unhealthy_after: 3, healthy_after: 2 } as const
/** Nobody has an origin asked more often than this. */
const INTERVAL_MIN_MS = 100
/** A status line is shorter; what says more without one speaks no HTTP. */
const STATUS_LINE_MAX_BYTES = 256

export interface Checked {
  readonly target: Target
  readonly verifyTls: boolean
  /** What the origin sees as Host. */
  readonly host: string
}

/** Asks an origin once. `done` hears `undefined`, or why it is not well; the function returned takes the question back. */
export function ask({ target, verifyTls, host }: Checked, check: HealthCheck, clock: Clock, done: (reason: string | undefined) => void): () => void {
  const socket = dial(target, verifyTls)
  let over = false
  const end = (reason: string | undefined): void => {
    if (over) return
    stop()
    done(reason)
  }
  const timeoutMs = check.timeout_ms ?? DEFAULTS.timeout_ms
  const cancel = clock.later(timeoutMs, () => end(`no answer within ${String(timeoutMs)} ms`))
  const stop = (): void => {
    over = true
    cancel()
    socket.destroy()
  }
  let said = ''
  socket.on('error', (error) => end(error.message))
  // Half-close is kept for exchanges (origin-socket.ts): here it is an end like any other.
  for (const gone of ['end', 'close']) socket.on(gone, () => end('the connection was closed without an answer'))
  socket.on('data', (chunk: Buffer) => {
    said += chunk.toString('latin1')
    if (said.includes('\n') || said.length > STATUS_LINE_MAX_BYTES) end(judge(said))
  })
  socket.once(target.tls ? 'secureConnect' : 'connect', () => {
    if (check.kind === 'tcp') end(undefined)
    else socket.write(`GET ${check.path ?? DEFAULTS.path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: postern-health\r\nAccept: */*\r\nConnection: close\r\n\r\n`)
  })
  return stop
}

function judge(said: string): string | undefined {
  const status = /^HTTP\/1\.[01] ([1-5][0-9]{2})[ \r\n]/.exec(said)?.[1]
  if (status === undefined) return 'the answer is no HTTP'
  return status >= '200' && status < '400' ? undefined : `it answered ${status}`
}

/** One origin under one check. The first answer decides at once; after that a change needs several of the same. */
export class Health {
  /** Why it is not well; undefined while it is, and before it was asked. */
  reason: string | undefined
  private readonly checked: Checked
  private readonly check: HealthCheck
  private readonly clock: Clock
  private readonly onChange: () => void
  private asked = false
  /** Answers in a row that say otherwise. */
  private others = 0
  private cancel: () => void

  constructor(checked: Checked, check: HealthCheck, clock: Clock, onChange: () => void) {
    this.checked = checked
    this.check = check
    this.clock = clock
    this.onChange = onChange
    this.cancel = ask(checked, check, clock, (reason) => this.answered(reason))
  }

  stop(): void {
    this.cancel()
  }

  private answered(reason: string | undefined): void {
    const wait = Math.max(INTERVAL_MIN_MS, this.check.interval_ms ?? DEFAULTS.interval_ms)
    this.cancel = this.clock.later(wait, () => {
      this.cancel = ask(this.checked, this.check, this.clock, (next) => this.answered(next))
    })
    const other = (reason === undefined) !== (this.reason === undefined)
    this.others = other ? this.others + 1 : 0
    const enough = this.asked ? (reason === undefined ? (this.check.healthy_after ?? DEFAULTS.healthy_after) : (this.check.unhealthy_after ?? DEFAULTS.unhealthy_after)) : 1
    this.asked = true
    if (!other || this.others < enough) return
    this.others = 0
    this.reason = reason
    this.onChange()
  }
}

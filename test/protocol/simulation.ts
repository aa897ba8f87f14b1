// A world for protocol/ in which time, cuts and delays come from a seed, so that a failure can be run again.
import type { Attempts } from '../../protocol/admit.ts'
import type { Carrier } from '../../protocol/channel.ts'
import type { Clock } from '../../protocol/clock.ts'
import { Budget } from '../../protocol/credit.ts'
import type { Environment, Times } from '../../protocol/environment.ts'
import { AGENT_BUDGET_BYTES, GATEWAY_BUDGET_BYTES } from '../../protocol/limits.ts'
import type { Policy, Settings } from '../../protocol/messages.ts'
import { type Agreement, Session } from '../../protocol/session.ts'

/** A small generator (mulberry32): the same numbers for the same seed everywhere. */
export class Random {
  private state: number
  constructor(seed: number) {
    this.state = seed >>> 0
  }

  /** 0 ≤ x < 1 */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let t = this.state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  below(n: number): number {
    return Math.floor(this.next() * n)
  }

  bytes(n: number): Buffer {
    const out = Buffer.allocUnsafe(n)
    for (let i = 0; i < n; i++) out[i] = this.below(256)
    return out
  }
}

/** Every try to log in may go on at once. */
export const AT_ONCE: Attempts = {
  begin: (_carrier, _agentId, challenge) => {
    challenge()
    return { right: () => undefined, over: () => undefined }
  },
}

interface Due {
  readonly at: number
  readonly then: () => void
}

/** Time that moves only when everything of the present is done. */
export class SimulatedClock implements Clock {
  private time = 0
  private present: (() => void)[] = []
  private readonly future = new Map<number, Due[]>()
  private readonly cancelled = new Set<Due>()

  now(): number {
    return this.time
  }

  later(ms: number, then: () => void): () => void {
    const due: Due = { at: this.time + Math.max(0, ms), then }
    const slot = this.future.get(due.at)
    if (slot === undefined) this.future.set(due.at, [due])
    else slot.push(due)
    return () => this.cancelled.add(due)
  }

  soon(then: () => void): void {
    this.present.push(then)
  }

  /** Runs until `done` says so; false if `limitMs` of simulated time passed or nothing is left to happen. */
  run(done: () => boolean, limitMs = 3_600_000): boolean {
    const end = this.time + limitMs
    for (;;) {
      const present = this.present
      this.present = []
      for (const then of present) then()
      if (this.present.length > 0) continue
      if (done()) return true
      if (this.future.size === 0) return false
      const at = Math.min(...this.future.keys())
      if (at > end) return false
      this.time = at
      const due = this.future.get(at)!
      this.future.delete(at)
      for (const one of due) if (!this.cancelled.delete(one)) one.then()
    }
  }
}

/** A transport of messages between two carriers. Bytes on the way can be cut: what was not delivered is lost. */
export class Wire {
  readonly left: WireEnd
  readonly right: WireEnd
  delivered = 0
  private readonly clock: Clock
  private readonly delayMs: () => number
  private readonly bytesPerMs: number
  private open = true

  constructor(clock: Clock, delayMs: () => number, bytesPerMs = Infinity) {
    this.clock = clock
    this.delayMs = delayMs
    this.bytesPerMs = bytesPerMs
    this.left = new WireEnd(this)
    this.right = new WireEnd(this)
  }

  get isOpen(): boolean {
    return this.open
  }

  carry(from: WireEnd, message: Buffer): void {
    const to = from === this.left ? this.right : this.left
    // A link of so many bytes a millisecond, then the delay. Order holds: nothing overtakes.
    from.busyUntil = Math.max(from.busyUntil, this.clock.now()) + message.length / this.bytesPerMs
    from.queuedBytes += message.length
    from.lastArrival = Math.max(from.lastArrival, from.busyUntil + this.delayMs())
    this.clock.later(from.lastArrival - this.clock.now(), () => {
      from.queuedBytes -= message.length
      if (!this.open || to.deaf) return
      this.delivered++
      // A copy, made at the last moment: a sender that takes a message's memory back while it may still be on its way is found out.
      to.onMessage(Buffer.from(message))
    })
  }

  closeAfterSent(from: WireEnd): void {
    this.clock.later(Math.max(0, from.lastArrival - this.clock.now()), () => this.cut('closed'))
  }

  /** Both ends learn of it at once; whatever was under way is gone. */
  cut(reason: string): void {
    if (!this.open) return
    this.open = false
    this.clock.soon(() => {
      this.left.onClosed(reason)
      this.right.onClosed(reason)
    })
  }
}

export class WireEnd implements Carrier {
  readonly kind = 'wire'
  readonly peer = 'simulation'
  readonly worker = 0
  /** Takes nothing in, as behind a black hole. */
  deaf = false
  lastArrival = 0
  /** Whatever is on its way is still looked at. */
  queuedBytes = 0
  busyUntil = 0
  readonly sent: Buffer[] = []
  onMessage: (message: Buffer) => void = () => undefined
  onDrain: () => void = () => undefined
  onClosed: (reason: string) => void = () => undefined
  private readonly wire: Wire

  constructor(wire: Wire) {
    this.wire = wire
  }

  send(message: Buffer): boolean {
    if (this.wire.isOpen) this.wire.carry(this, message)
    this.sent.push(Buffer.from(message))
    return true
  }

  close(): void {
    this.wire.closeAfterSent(this)
  }

  abort(): void {
    this.wire.cut('aborted')
  }
}

export const TIMES: Times = { heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 }
export const SETTINGS: Settings = { firstCredit: 65_536, maxStreams: 4_096 }

export function environment(clock: Clock, random: Random, budgetBytes: number): Environment {
  return { clock, random: (bytes) => random.bytes(bytes), budget: new Budget(budgetBytes), times: TIMES }
}

export interface Pair {
  readonly clock: SimulatedClock
  readonly random: Random
  readonly agent: Session
  readonly gateway: Session
  readonly wire: Wire
}

/** Two sessions that have logged in, joined by one wire. */
export function pair(seed: number, options: { policy?: Policy; lanes?: number; delayMs?: (random: Random) => number; bytesPerMs?: number; settings?: Partial<Settings> } = {}): Pair {
  const clock = new SimulatedClock()
  const random = new Random(seed)
  const agreement: Omit<Agreement, 'role'> = {
    sessionId: random.bytes(16),
    secret: random.bytes(32),
    policy: options.policy ?? 'always',
    lanes: options.lanes ?? 1,
    settings: { ...SETTINGS, ...options.settings },
    peerSettings: { ...SETTINGS, ...options.settings },
    terms: { services: [], heartbeat_ms: 10_000, dead_after_ms: 25_000, grace_ms: 30_000, channels: [] },
  }
  const agent = new Session({ ...agreement, role: 'agent' }, environment(clock, random, AGENT_BUDGET_BYTES))
  const gateway = new Session({ ...agreement, role: 'gateway' }, environment(clock, random, GATEWAY_BUDGET_BYTES))
  const wire = new Wire(clock, () => options.delayMs?.(random) ?? 1, options.bytesPerMs)
  agent.begin(wire.left)
  gateway.begin(wire.right)
  return { clock, random, agent, gateway, wire }
}

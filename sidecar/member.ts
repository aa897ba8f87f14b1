// A session as the gateway knows it: whose it is, what its agent says it serves, and the gateway's end of its control stream (SPEC §10).
import type { Clock } from '../protocol/clock.ts'
import { type AgentSays, ControlReader, encodeControl, type GatewaySays, type RefusedPush, type Taken } from '../protocol/control.ts'
import type { ErrorCode } from '../protocol/errors.ts'
import type { Settings } from '../protocol/messages.ts'
import type { Session } from '../protocol/session.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents } from '../protocol/stream.ts'
import { AgentFigures } from './agent-figures.ts'
import { AgentStatus } from './agent-status.ts'
import type { pushedOf } from './offer.ts'

/** What an agent says it serves changes files that nginx reads: one that says something else all the time is heard this often. */
const HEARD_EVERY_MS = 100

type Subject = 'services' | 'settings' | 'taken'

export interface MemberFacts {
  readonly session: Session
  readonly agentId: string
  /** 32 hexadecimal digits, the same as long as the agent's process lives. */
  readonly instance: string
  /** The registration record that its secret was proved against. */
  readonly record: string
  /** Where its first channel came from, for people. */
  readonly peer: string
  /** When it logged in, on the gateway's clock. */
  readonly since: number
  readonly clock: Pick<Clock, 'later'>
}

export class Member implements StreamEvents {
  readonly session: Session
  readonly agentId: string
  readonly instance: string
  readonly record: string
  readonly peer: string
  readonly since: number
  /** What its agent says it serves. */
  claims: readonly string[] = []
  /** Of which of that it says that its origin is not well. */
  unhealthy: ReadonlySet<string> = new Set()
  /** What of the gateway's word it does not take, and why. */
  refused: readonly RefusedPush[] = []
  /** Services it may serve that it is not told of, for they are too many. */
  untoldCount = 0
  /** What of that it may serve: the index's business (serving.ts). */
  serving: readonly string[] = []
  /** What its agent says of itself, if it does. */
  status: AgentStatus | undefined
  /** What it tells of its process when it is asked. */
  readonly figures: AgentFigures
  /** The last that it was told of its streams. */
  private announced: Settings
  private readonly onClaims: (member: Member) => void
  private readonly reader = new ControlReader()
  private readonly clock: Pick<Clock, 'later'>
  /** It was heard just now: its last word since then waits. */
  private heardNow = false
  private last: AgentSays | undefined
  /** So many times it has said what it serves. */
  private saidCount = 0
  private control: Stream | undefined
  /** By what it is about: the last word the agent has, as it was said. */
  private readonly told: Record<Subject, string>
  /** The stream takes no more at the moment: what is to be said when it does again. */
  private blocked = false
  private readonly wanted = new Map<Subject, GatewaySays | Taken>()

  /** `onClaims` is called when `claims` changed. */
  constructor(facts: MemberFacts, onClaims: (member: Member) => void) {
    this.session = facts.session
    this.agentId = facts.agentId
    this.instance = facts.instance
    this.record = facts.record
    this.peer = facts.peer
    this.since = facts.since
    this.clock = facts.clock
    this.figures = new AgentFigures(facts.session, facts.clock)
    this.announced = facts.session.settings
    this.told = { services: JSON.stringify({ services: facts.session.terms.services }), settings: JSON.stringify({ settings: {} }), taken: '' }
    this.onClaims = onClaims
  }

  /** Exchanges in flight. The streams that stand by themselves are no load. */
  get load(): number {
    return Math.max(0, this.session.streamCount - (this.control === undefined ? 0 : 1) - (this.status?.open === true ? 1 : 0) - (this.figures.open ? 1 : 0))
  }

  /** Takes the control stream that the agent opened; false if it has one. */
  openControl(opening: Opening, stream: Stream): boolean {
    if (this.control !== undefined) return false
    this.control = stream
    stream.sendHead(NO_FIELDS, undefined, false)
    this.onData(opening.body)
    return true
  }

  /** Takes the status stream that the agent opened; undefined if it has one. */
  openStatus(opening: Opening, stream: Stream): AgentStatus | undefined {
    if (this.status !== undefined) return undefined
    this.status = new AgentStatus(opening, stream)
    return this.status
  }

  /** Tells the agent what it may serve, what is set for it, or what of its word counts, if that differs from what it knows. One that does not listen hears only the last word. */
  push(said: GatewaySays | Taken): void {
    if (this.control === undefined) return
    const subject = 'services' in said ? 'services' : 'settings' in said ? 'settings' : 'taken'
    if (this.blocked) {
      this.wanted.set(subject, said)
      return
    }
    const text = JSON.stringify(said)
    if (text === this.told[subject]) return
    this.told[subject] = text
    this.blocked = !this.control.write(encodeControl(said))
  }

  /** Tells the agent what is set for it, and keeps it at this end too, from now on. */
  keep(settings: ReturnType<typeof pushedOf>, streams: Settings): void {
    this.push({ settings })
    const { heartbeat_ms: heartbeatMs, dead_after_ms: deadAfterMs, grace_ms: graceMs } = settings
    this.session.keepTimes({ ...this.session.environment.times, heartbeatMs, deadAfterMs, graceMs })
    if (streams.firstCredit === this.announced.firstCredit && streams.maxStreams === this.announced.maxStreams) return
    this.announced = streams
    this.session.announce(streams)
  }

  onHead(_fields: Fields): void {}

  // What the reader throws ends the session: an agent that speaks garbage to us is not to be trusted with more.
  onData(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    for (const message of this.reader.push(chunk)) {
      if (!('serves' in message)) continue
      this.saidCount++
      this.hear(message)
    }
    this.control?.consumed(chunk.length)
  }

  /** An agent that has no more to say serves nothing more. */
  onEnd(): void {
    this.claim([])
    this.control?.end()
    this.control = undefined
  }

  onStop(): void {}

  onReset(_code: ErrorCode): void {
    this.control = undefined
    this.claim([])
  }

  onDrain(): void {
    this.blocked = false
    const wanted = [...this.wanted.values()]
    this.wanted.clear()
    for (const said of wanted) this.push(said)
  }

  private hear(message: AgentSays): void {
    if (this.heardNow) {
      this.last = message
      return
    }
    this.heardNow = true
    this.clock.later(HEARD_EVERY_MS, () => {
      this.heardNow = false
      const { last } = this
      this.last = undefined
      if (last !== undefined && this.control !== undefined) this.hear(last)
    })
    this.refused = message.refused
    this.claim(message.serves, message.unhealthy)
    // What nginx is to know it knows by now: routes are written within the turn.
    this.push({ taken: this.saidCount, opened: this.session.openedCount })
  }

  private claim(names: readonly string[], unhealthy: readonly string[] = []): void {
    this.claims = names
    this.unhealthy = new Set(unhealthy)
    this.onClaims(this)
  }
}

// The agent as a library: gets a session with its gateway by the best way there is, keeps it, and serves its services over it.
import type { Environment } from '../protocol/environment.ts'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Join } from '../protocol/join.ts'
import { INSTANCE_ID_BYTES, type Policy } from '../protocol/messages.ts'
import { ready } from '../protocol/opaque.ts'
import type { Refusal, Session, SessionEvents } from '../protocol/session.ts'
import type { StatusSaid } from '../protocol/status.ts'
import { type Opening, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'
import { Backoff } from './backoff.ts'
import { type Candidate, listCandidates } from './candidates.ts'
import { Channels, type ChannelState, CLIMB_TIMES, type ClimbTimes } from './channels.ts'
import { AgentControl } from './control.ts'
import { enter, FINAL } from './enter.ts'
import type { AgentEvent } from './events.ts'
import { Memory } from './memory.ts'
import { Offering, type Served, type Services } from './offering.ts'
import { race, type Racer, type Winner } from './race.ts'
import { AgentStatus } from './status-stream.ts'

export interface AgentOptions {
  readonly join: Join
  readonly services: Services
  readonly environment: Environment
  readonly userAgent: string
  readonly onEvent: (event: AgentEvent) => void
  /** The channels it may take, the best first: all that lead to the join string's gateway directly, if it is not said. */
  readonly candidates?: readonly Candidate[]
  /** `never`: the gateway may have payload go unsealed. Both ends must say so; unless this one does, a session is sealed or there is none. */
  readonly policy?: Policy | undefined
  /** Channels at once, if the gateway grants as many. */
  readonly connections?: number
  /** Where it keeps what worked, for the next start. */
  readonly memoryFile?: string | undefined
  readonly climb?: ClimbTimes
}

/** What an agent does at this moment, for people. Ages are in milliseconds. */
export interface AgentState {
  readonly state: State
  readonly session: string | null
  readonly age_ms: number | null
  readonly services: readonly Served[]
  readonly exchanges: number
  readonly channels: readonly ChannelState[]
}

/** `seeking`: candidates are raced. `entering`: it logs in. `waiting`: until the next try. `serving`: it has a session, be it without a channel at the moment. */
type State = 'new' | 'seeking' | 'entering' | 'serving' | 'waiting' | 'closed'

/** What may follow what. Whatever else somebody tells comes too late, and changes nothing. */
const FOLLOWS: Readonly<Record<State, readonly State[]>> = {
  new: ['seeking', 'closed'],
  seeking: ['entering', 'waiting', 'closed'],
  entering: ['serving', 'waiting', 'closed'],
  serving: ['waiting', 'closed'],
  waiting: ['seeking', 'closed'],
  closed: [],
}

/** How long exchanges under way may take once the agent drains. */
export const DRAIN_MS = 30_000
/** How often it looks whether they are: no visitor notices, and once in an agent's life. */
const DRAIN_LOOK_MS = 20

export class Agent {
  private readonly options: AgentOptions
  private readonly candidates: readonly Candidate[]
  private readonly racer: Racer
  private readonly memory: Memory
  private readonly offering: Offering
  private readonly backoff: Backoff
  private readonly instance: Buffer
  private session: Session | undefined
  private channels: Channels | undefined
  private control: AgentControl | undefined
  private status: AgentStatus | undefined
  private servesSince = 0
  /** What was last said of what is served: a push that changes nothing here is no event. */
  private told = ''
  private state: State = 'new'
  /** Takes back what the state waits for. */
  private cancel: () => void = nothing
  private draining = false

  constructor(options: AgentOptions) {
    const { environment, join, memoryFile, services, userAgent } = options
    this.options = options
    this.candidates = options.candidates ?? listCandidates({ gateway: join.url }, {})
    this.racer = { environment, userAgent }
    this.memory = new Memory({ gateway: join.url, clock: environment.clock, file: memoryFile })
    this.offering = new Offering(services)
    this.backoff = new Backoff(environment)
    this.instance = environment.random(INSTANCE_ID_BYTES)
  }

  /** Exchanges under way. */
  get active(): number {
    return this.offering.active
  }

  get now(): AgentState {
    const serving = this.state === 'serving'
    return {
      state: this.state,
      session: serving ? this.session!.id : null,
      age_ms: serving ? this.options.environment.clock.now() - this.servesSince : null,
      services: serving ? this.offering.served : [],
      exchanges: this.active,
      channels: serving ? this.channels!.states : [],
    }
  }

  private get said(): StatusSaid {
    const { channels, exchanges } = this.now
    return { channels: channels.map(({ kind, way, round_trip_ms, lanes }) => ({ kind, way, round_trip_ms, lanes })), exchanges }
  }

  async start(): Promise<void> {
    await ready
    if (this.state === 'new') this.seek()
  }

  /** Takes no more exchanges; resolves when those under way are over, or after {@link DRAIN_MS}. Then it is closed. */
  async drain(): Promise<void> {
    if (this.state !== 'closed' && !this.draining) {
      this.draining = true
      this.options.onEvent({ event: 'draining', exchanges: this.active })
      this.session?.drain()
      await this.whenIdle()
    }
    await this.close()
  }

  /** Ends the session and breaks what is under way. */
  async close(): Promise<void> {
    if (!this.become('closed')) return
    this.leaveSession()
    this.session?.end(errors.draining, 'the agent was closed')
    await this.offering.close()
    this.options.onEvent({ event: 'closed' })
  }

  /** Is nothing under way: neither at an origin, nor in a stream whose last bytes have not left? Standing streams do not count. */
  private get idle(): boolean {
    if (this.active > 0) return false
    return this.session === undefined || this.session.ended || this.session.streamCount <= (this.status?.open === true ? 2 : 1)
  }

  private async whenIdle(): Promise<void> {
    const { clock } = this.options.environment
    const until = clock.now() + DRAIN_MS
    while (!this.idle && this.state !== 'closed' && clock.now() < until) await new Promise<void>((resolve) => void clock.later(DRAIN_LOOK_MS, resolve))
  }

  // --- from nothing to a session --------------------------------------------------------------------------------------

  /** Takes on a state, if it may follow; what the one before waited for is taken back. */
  private become(next: State): boolean {
    if (!FOLLOWS[this.state].includes(next)) return false
    this.state = next
    this.cancel()
    this.cancel = nothing
    return true
  }

  private seek(): void {
    if (!this.become('seeking')) return
    this.options.onEvent({ event: 'connecting', gateway: this.options.join.url })
    this.cancel = race(this.memory.order(this.candidates), this.racer, (outcome) => {
      if ('reason' in outcome) this.failed(outcome.reason, outcome.detail)
      else this.enter(outcome)
    })
  }

  private enter(winner: Winner): void {
    if (!this.become('entering')) return winner.carrier.abort()
    const { connections = 1, environment, join, policy } = this.options
    this.cancel = () => winner.carrier.abort()
    enter(winner.carrier, { join, instance: this.instance, policy, lanes: connections }, environment, (outcome) => {
      if (this.state !== 'entering') return
      this.cancel = nothing
      if (!('code' in outcome)) return this.begin(outcome, winner)
      if (!FINAL.has(outcome.code)) this.memory.broke(winner.candidate, 0, false)
      this.refused(outcome)
    })
  }

  private refused({ code, detail }: Refusal): void {
    if (!FINAL.has(code)) return this.failed('login', detail)
    this.options.onEvent({ event: 'refused', code: code.name, detail })
    void this.close()
  }

  private failed(reason: Extract<AgentEvent, { event: 'failed' }>['reason'], detail: string): void {
    if (!this.become('waiting')) return
    const retryMs = this.backoff.nextMs()
    this.options.onEvent({ event: 'failed', reason, detail, retryMs })
    this.seekIn(retryMs)
  }

  private seekIn(ms: number): void {
    this.cancel = this.options.environment.clock.later(ms, () => this.seek())
  }

  // --- a session ------------------------------------------------------------------------------------------------------

  private begin(session: Session, winner: Winner): void {
    if (!this.become('serving')) return
    const { climb = CLIMB_TIMES, environment, onEvent } = this.options
    this.session = session
    this.servesSince = environment.clock.now()
    const onChange = (): void => this.status?.changed()
    this.channels = new Channels(session, winner, { racer: this.racer, candidates: this.candidates, memory: this.memory, backoff: this.backoff, climb, tell: onEvent, onChange })
    session.events = { ...this.channels.events, ...this.eventsOf(session) }
    this.offering.allow(session.terms.services)
    const { kind } = winner.candidate
    const serves = this.draining ? [] : this.offering.served.map(({ name }) => name)
    const uuid = (): string => environment.random(16).toString('hex')
    this.control = new AgentControl(session, uuid(), serves, (services) => {
      this.offering.allow(services)
      this.control?.say(this.offering.served.map(({ name }) => name))
      this.tellServing(session, kind)
    })
    this.status = new AgentStatus(session, uuid(), () => this.said)
    if (this.draining) session.drain()
    this.tellServing(session, kind)
  }

  private tellServing(session: Session, channel: string): void {
    const { onEvent, join } = this.options
    const services = this.offering.served
    const unwanted = this.offering.unwanted
    const told = `${session.id} ${JSON.stringify([services, unwanted])}`
    if (told === this.told) return
    this.told = told
    if (unwanted.length > 0) onEvent({ event: 'not_allowed', services: unwanted })
    if (services.length === 0) onEvent({ event: 'nothing_to_serve', gateway: join.url })
    else onEvent({ event: 'serving', gateway: join.url, channel, session: session.id, services })
  }

  private eventsOf(session: Session): Pick<SessionEvents, 'onOpen' | 'onPeerDrain' | 'onEnd'> {
    return {
      onOpen: (opening, stream) => this.take(opening, stream),
      onPeerDrain: () => this.options.onEvent({ event: 'gateway_drains' }),
      onEnd: (code, detail) => {
        if (this.session === session && this.state === 'serving') this.ended(code, detail)
      },
    }
  }

  private ended(code: ErrorCode, detail: string): void {
    this.leaveSession()
    this.backoff.lost(this.options.environment.clock.now() - this.servesSince)
    if (FINAL.has(code)) return this.refused({ code, detail })
    if (this.channels?.detached !== true) this.options.onEvent({ event: 'lost', reason: detail })
    if (this.become('waiting')) this.seekIn(this.backoff.nextMs())
  }

  private leaveSession(): void {
    this.channels?.close()
    this.status?.close()
  }

  private take(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    if (opening.kind !== StreamKind.exchange) return errors.refused
    return this.offering.take(opening, stream)
  }
}

const nothing = (): void => undefined

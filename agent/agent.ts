// The agent as a library: gets a session with its gateway by the best way there is, keeps it, and serves its services over it.
import type { Environment } from '../protocol/environment.ts'
import { errors } from '../protocol/errors.ts'
import type { Join } from '../protocol/join.ts'
import { INSTANCE_ID_BYTES, type Policy } from '../protocol/messages.ts'
import { ready } from '../protocol/opaque.ts'
import type { Refusal, Session } from '../protocol/session.ts'
import { Backoff } from './backoff.ts'
import { type Candidate, listCandidates } from './candidates.ts'
import type { ChannelState } from './channels.ts'
import { CLIMB_TIMES, type ClimbTimes } from './climb.ts'
import { enter, type Entrant, FINAL } from './enter.ts'
import type { AgentEvent } from './events.ts'
import { DRAIN_MS, leave, lookUntil } from './leaving.ts'
import { Memory, YOUNG_MS } from './memory.ts'
import { type Offer, Offering, type Served, type Services } from './offering.ts'
import { type OwnSettings, Pushed, type Setting } from './pushed.ts'
import { race, type Racer, type Winner } from './race.ts'
import { Renewal } from './renewal.ts'
import { Serving } from './serving.ts'

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
  /** Channels at once, if the gateway grants as many; what the gateway sets for it, if it is not said. */
  readonly connections?: number | undefined
  /** What its user has set, and where: in that the gateway has no say. */
  readonly own?: OwnSettings
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
  /** What the gateway lets it serve, and what came of it. */
  readonly offers: readonly Offer[]
  readonly settings: readonly Setting[]
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

/** A session whose place another took holds up nobody: visitors who stay, with an upgrade or a large download, have so long. */
const REPLACED_MS = 3_600_000

/**
 * Who has served believes a refusal only after so many of them in a row: a handshake that somebody on the way changed (a box that inspects, a bit that
 * flipped) ends like one with a wrong secret, and the CLOSE that ends a session can be anybody's on the way.
 */
const DOUBTED_MAX_COUNT = 2

export class Agent {
  private readonly options: AgentOptions
  private readonly candidates: readonly Candidate[]
  private readonly racer: Racer
  private readonly memory: Memory
  private readonly offering: Offering
  private readonly pushed: Pushed
  private readonly backoff: Backoff
  private instance: Buffer
  private readonly renewal: Renewal
  /** What was agreed on at the login of the session that serves, and at the one under way beside it. */
  private agreed = ''
  private agreeing = ''
  /** Older sessions, from when the next one began until they end. */
  private readonly leaving = new Set<Serving>()
  private serving: Serving | undefined
  private state: State = 'new'
  /** How many more refusals are doubted. */
  private doubts = 0
  /** The one that ended the last session: it says more than those of the logins after it. */
  private ended: Refusal | undefined
  /** Takes back what the state waits for. */
  private cancel: () => void = nothing
  private draining = false

  constructor(options: AgentOptions) {
    const { environment, join, memoryFile, services, userAgent } = options
    this.options = options
    this.candidates = options.candidates ?? listCandidates({ gateway: join.url }, {})
    this.racer = { environment, userAgent }
    this.memory = new Memory({ gateway: join.url, clock: environment.clock, file: memoryFile })
    this.offering = new Offering(services, environment.clock)
    this.pushed = new Pushed(ownOf(options), this.candidates)
    this.backoff = new Backoff(environment)
    this.instance = environment.random(INSTANCE_ID_BYTES)
    this.renewal = new Renewal({ racer: this.racer, wish: () => this.wishAgain(), onSession: (session, winner, instance) => this.renewed(session, winner, instance) })
  }

  /** Exchanges under way. */
  get active(): number {
    return this.offering.active
  }

  get now(): AgentState {
    const serving = this.state === 'serving' ? this.serving : undefined
    return {
      state: this.state,
      session: serving?.session.id ?? null,
      age_ms: serving?.ageMs ?? null,
      services: serving === undefined ? [] : this.offering.served,
      exchanges: this.active,
      channels: serving?.channelStates ?? [],
      offers: serving === undefined ? [] : this.offering.offers,
      settings: this.pushed.list,
    }
  }

  async start(): Promise<void> {
    await ready
    if (this.state === 'new') this.seek()
  }

  /** Takes no more exchanges; resolves when those under way are over, or after {@link DRAIN_MS}. Then it is closed. */
  async drain(): Promise<void> {
    if (this.state !== 'closed' && !this.draining) {
      const { clock } = this.options.environment
      const until = clock.now() + DRAIN_MS
      this.draining = true
      this.renewal.stop()
      // No session is sought any more.
      if (this.state !== 'serving' && !this.become('waiting')) this.cancel()
      this.options.onEvent({ event: 'draining', exchanges: this.active })
      const sessions = this.serving === undefined ? [...this.leaving] : [...this.leaving, this.serving]
      await Promise.all(sessions.map((serving) => leave(serving, clock)))
      // What an answer or an upgrade still has for an origin.
      await lookUntil(() => this.active === 0 || this.state === 'closed', until, clock)
    }
    await this.close()
  }

  /** Ends the session and breaks what is under way. */
  async close(): Promise<void> {
    if (!this.become('closed')) return
    this.renewal.stop()
    for (const serving of this.leaving) serving.close()
    this.leaving.clear()
    this.serving?.close()
    await this.offering.close()
    this.options.onEvent({ event: 'closed' })
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
    this.cancel = race(this.wish.candidates, this.racer, (outcome) => {
      if ('reason' in outcome) this.failed(outcome.reason, outcome.detail)
      else this.enter(outcome)
    })
  }

  private enter(winner: Winner): void {
    if (!this.become('entering')) return winner.carrier.abort()
    const { environment } = this.options
    this.cancel = () => winner.carrier.abort()
    this.agreed = agreedOn(this.pushed)
    enter(winner.carrier, { ...this.wish.entrant, instance: this.instance }, environment, (outcome) => {
      if (this.state !== 'entering') return
      this.cancel = nothing
      if (!('code' in outcome)) return this.begin(outcome, winner)
      if (!FINAL.has(outcome.code)) this.memory.broke(winner.candidate, 0, false)
      else if (this.doubts-- <= 0) return this.refused(outcome)
      this.failed('login', outcome.detail)
    })
  }

  private refused(refusal: Refusal): void {
    const { code, detail } = this.ended ?? refusal
    this.options.onEvent({ event: 'refused', code: code.name, detail })
    void this.close()
  }

  private failed(reason: Extract<AgentEvent, { event: 'failed' }>['reason'], detail: string): void {
    if (!this.become('waiting')) return
    this.pushed.demands.loginFailed()
    const retryMs = this.backoff.nextMs()
    this.options.onEvent({ event: 'failed', reason, detail, retryMs })
    this.seekIn(retryMs)
  }

  private seekIn(ms: number): void {
    if (!this.draining) this.cancel = this.options.environment.clock.later(ms, () => this.seek())
  }

  // --- a session ------------------------------------------------------------------------------------------------------

  private begin(session: Session, winner: Winner): void {
    if (!this.become('serving')) return
    this.serve(session, winner, undefined)
    this.renew()
  }

  /** `before`: the session that goes when this one serves. */
  private serve(session: Session, winner: Winner, before: Serving | undefined): void {
    const { climb = CLIMB_TIMES, join, onEvent } = this.options
    const { agreed: agreedBefore, backoff, memory, offering, pushed, racer } = this
    const serving: Serving = new Serving(session, winner, {
      gateway: join.url, offering, pushed, renews: before !== undefined, onEvent, racer, candidates: pushed.allowed, memory, backoff, climb,
      onTaken: () => {
        this.doubts = DOUBTED_MAX_COUNT
        this.ended = undefined
        if (before !== undefined) void this.leave(before)
        before = undefined
      },
      onSettings: () => this.renew(),
      onEnd: (code, detail, livedMs) => {
        this.leaving.delete(serving)
        if (this.serving !== serving) return
        if (before !== undefined && !before.session.ended) return this.stay(before, agreedBefore)
        this.renewal.stop()
        pushed.demands.sessionOver()
        // One that ends as soon as it began may do so each time: then the next is no quick try.
        if (livedMs >= YOUNG_MS) backoff.lost(livedMs)
        this.ended = FINAL.has(code) ? { code, detail } : undefined
        // Who leaves asks nobody any more.
        if (FINAL.has(code) && (this.draining || this.doubts-- <= 0)) return this.refused({ code, detail })
        if (this.become('waiting')) this.seekIn(backoff.nextMs())
      },
    })
    this.serving = serving
    if (before !== undefined) this.leaving.add(before)
  }

  /** The session that was to take its place went before it did. */
  private stay(before: Serving, agreed: string): void {
    this.leaving.delete(before)
    this.serving = before
    this.agreed = agreed
    before.watch()
    this.renew()
  }

  /** What is agreed on at a login. */
  private get wish(): { entrant: Omit<Entrant, 'instance'>; candidates: readonly Candidate[] } {
    const { join, policy } = this.options
    return { entrant: { join, policy, lanes: this.pushed.connections }, candidates: this.memory.order(this.pushed.allowed) }
  }

  private wishAgain(): Agent['wish'] {
    this.agreeing = agreedOn(this.pushed)
    return this.wish
  }

  /** The gateway has set something: does the session there is still agree with that? */
  private renew(): void {
    const { agreed, draining, pushed, serving, state } = this
    if (state !== 'serving' || draining || serving === undefined) return
    if (agreed !== agreedOn(pushed) || pushed.unsealed(serving.session.terms.settings) !== pushed.unsealed()) this.renewal.begin()
  }

  private renewed(session: Session, winner: Winner, instance: Buffer): void {
    if (this.state !== 'serving' || this.draining) return session.end(errors.draining, 'it comes too late')
    this.instance = instance
    this.serve(session, winner, this.serving)
    this.agreed = this.agreeing
    this.renew()
  }

  private async leave(serving: Serving): Promise<void> {
    await leave(serving, this.options.environment.clock, REPLACED_MS)
    this.leaving.delete(serving)
  }
}

const agreedOn = ({ connections, allowed }: Pushed): string => JSON.stringify([connections, allowed.map(({ kind }) => kind)])

function ownOf({ own, connections, policy }: AgentOptions): OwnSettings {
  return {
    ...(connections === undefined ? {} : { connections: { value: String(connections), source: 'flag' } }),
    ...(policy === undefined ? {} : { policy: { value: policy, source: 'flag' } }),
    ...own,
  }
}

const nothing = (): void => undefined

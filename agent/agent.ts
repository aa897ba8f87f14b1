// The agent as a library: keeps a session with its gateway alive over whatever channel there is, and serves its services over it.
import type { Carrier } from '../protocol/channel.ts'
import type { Environment } from '../protocol/environment.ts'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Join } from '../protocol/join.ts'
import { FIRST_CREDIT_BYTES, STREAMS_MAX_COUNT } from '../protocol/limits.ts'
import { login } from '../protocol/login.ts'
import { INSTANCE_ID_BYTES, type Policy } from '../protocol/messages.ts'
import { ready } from '../protocol/opaque.ts'
import type { Refusal, Session, SessionEvents } from '../protocol/session.ts'
import { type Opening, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'
import { Backoff } from './backoff.ts'
import { AgentControl } from './control.ts'
import { Offering, type Served, type Services } from './offering.ts'
import type { Way } from './way.ts'
import type { Dial, DialFailure } from './channel-dial.ts'
import { dialWebsocket } from './websocket.ts'

/** What happens to an agent, for whoever started it. Texts are for people. */
export type AgentEvent =
  | { readonly event: 'connecting'; readonly gateway: string }
  | { readonly event: 'serving'; readonly gateway: string; readonly channel: string; readonly session: string; readonly services: readonly Served[] }
  | { readonly event: 'nothing_to_serve'; readonly gateway: string }
  | { readonly event: 'not_allowed'; readonly services: readonly string[] }
  | { readonly event: 'lost'; readonly reason: string }
  | { readonly event: 'resumed'; readonly session: string }
  | { readonly event: 'failed'; readonly reason: DialFailure['reason'] | 'login'; readonly detail: string; readonly retryMs: number }
  | { readonly event: 'gateway_drains' }
  | { readonly event: 'draining'; readonly exchanges: number }
  | { readonly event: 'refused'; readonly code: string; readonly detail: string }
  | { readonly event: 'closed' }

export interface AgentOptions {
  readonly join: Join
  readonly services: Services
  readonly environment: Environment
  readonly userAgent: string
  readonly onEvent: (event: AgentEvent) => void
  /** How its sockets to the gateway are had: directly, if it is not said. */
  readonly way?: Way
  /** `never`: the gateway may have payload go unsealed. Both ends must say so; unless this one does, a session is sealed or there is none. */
  readonly policy?: Policy | undefined
  /** Which channel: websocket, if it is not said. */
  readonly dial?: Dial
}

/** How long exchanges under way may take once the agent drains. */
export const DRAIN_MS = 30_000
/** How often it looks whether they are: no visitor notices, and once in an agent's life. */
const DRAIN_LOOK_MS = 20
/** Refusals that trying again does not change. */
const FINAL: ReadonlySet<ErrorCode> = new Set([errors.unauthenticated, errors.revoked, errors.unsupported_version, errors.policy_mismatch])

export class Agent {
  private readonly options: AgentOptions
  private readonly offering: Offering
  private readonly backoff: Backoff
  private readonly instance: Buffer
  private session: Session | undefined
  private control: AgentControl | undefined
  /** Gives up the dial, or the wait, that is under way. */
  private cancelTry: (() => void) | undefined
  /** What was last said of what is served: a push that changes nothing here is no event. */
  private told = ''
  private state: 'new' | 'running' | 'draining' | 'closed' = 'new'

  constructor(options: AgentOptions) {
    this.options = options
    this.offering = new Offering(options.services)
    this.backoff = new Backoff(options.environment)
    this.instance = options.environment.random(INSTANCE_ID_BYTES)
  }

  /** Exchanges under way. */
  get active(): number {
    return this.offering.active
  }

  async start(): Promise<void> {
    await ready
    if (this.state !== 'new') return
    this.state = 'running'
    this.connect()
  }

  /** Takes no more exchanges; resolves when those under way are over, or after {@link DRAIN_MS}. Then it is closed. */
  async drain(): Promise<void> {
    if (this.state === 'running') {
      this.state = 'draining'
      this.options.onEvent({ event: 'draining', exchanges: this.active })
      this.session?.drain()
      await this.whenIdle()
    }
    await this.close()
  }

  /** Ends the session and breaks what is under way. */
  async close(): Promise<void> {
    if (this.state === 'closed') return
    this.state = 'closed'
    this.cancelTry?.()
    this.session?.end(errors.draining, 'the agent was closed')
    await this.offering.close()
    this.options.onEvent({ event: 'closed' })
  }

  /** Is nothing under way: neither at an origin, nor in a stream whose last bytes have not left? The control stream is one. */
  private get idle(): boolean {
    return this.active === 0 && (this.session === undefined || this.session.ended || this.session.streamCount <= 1)
  }

  private async whenIdle(): Promise<void> {
    const { clock } = this.options.environment
    const until = clock.now() + DRAIN_MS
    while (!this.idle && this.state === 'draining' && clock.now() < until) await new Promise<void>((resolve) => void clock.later(DRAIN_LOOK_MS, resolve))
  }

  // --- the way to the gateway ----------------------------------------------------------------------------------------

  private get alive(): boolean {
    return this.state === 'running' || this.state === 'draining'
  }

  private connect(): void {
    const { dial = dialWebsocket, join, userAgent, way } = this.options
    this.options.onEvent({ event: 'connecting', gateway: join.url })
    this.cancelTry = dial({ gateway: join.url, userAgent, ...(way === undefined ? {} : { way }) }, (outcome) => {
      this.cancelTry = undefined
      if ('reason' in outcome) this.tryAgain(outcome.reason, outcome.detail)
      else if (this.session === undefined || this.session.ended) this.logIn(outcome)
      else this.resume(this.session, outcome)
    })
  }

  private tryAgain(reason: DialFailure['reason'] | 'login', detail: string): void {
    if (!this.alive) return
    const retryMs = this.backoff.nextMs()
    this.options.onEvent({ event: 'failed', reason, detail, retryMs })
    this.later(retryMs)
  }

  private later(ms: number): void {
    this.cancelTry?.()
    this.cancelTry = this.options.environment.clock.later(ms, () => this.connect())
  }

  private logIn(carrier: Carrier): void {
    const { join, environment } = this.options
    const policies: Policy[] = this.options.policy === 'never' ? ['always', 'never'] : ['always']
    const settings = { firstCredit: FIRST_CREDIT_BYTES, maxStreams: STREAMS_MAX_COUNT }
    this.cancelTry = () => carrier.abort()
    login(carrier, { agentId: join.id, secret: join.secret, gatewayKey: join.key, instance: this.instance, policies, lanes: 1, settings }, environment, (outcome) => {
      this.cancelTry = undefined
      if ('code' in outcome) this.refused(outcome)
      else this.begin(outcome, carrier)
    })
  }

  private refused({ code, detail }: Refusal): void {
    if (!this.alive) return
    if (!FINAL.has(code)) return this.tryAgain('login', detail)
    this.options.onEvent({ event: 'refused', code: code.name, detail })
    void this.close()
  }

  private begin(session: Session, carrier: Carrier): void {
    this.session = session
    session.events = this.eventsOf(session)
    if (!this.alive) return session.end(errors.draining, 'the agent was closed')
    this.backoff.held()
    this.offering.allow(session.terms.services)
    const serves = this.offering.served.map(({ name }) => name)
    this.control = new AgentControl(session, this.options.environment.random(16).toString('hex'), this.state === 'draining' ? [] : serves, (services) => {
      this.offering.allow(services)
      this.control?.say(this.offering.served.map(({ name }) => name))
      this.tellServing(session, carrier.kind)
    })
    if (this.state === 'draining') session.drain()
    this.tellServing(session, carrier.kind)
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

  private resume(session: Session, carrier: Carrier): void {
    session.openChannel(carrier, (refusal) => {
      if (!this.alive) return
      if (refusal === undefined) {
        this.backoff.held()
        // The lanes have moved: what the old channel still held comes again over the new one.
        for (const old of session.idleCarriers) old.close()
        return this.options.onEvent({ event: 'resumed', session: session.id })
      }
      // The gateway does not know the session any more: nothing of it can be saved.
      if (refusal.code === errors.unknown_session) {
        this.session = undefined
        session.end(errors.agent_lost, refusal.detail)
      }
      if (session.ended || !session.attached) this.tryAgain('login', refusal.detail)
    })
  }

  // --- what the session tells ----------------------------------------------------------------------------------------

  private eventsOf(session: Session): SessionEvents {
    const { onEvent } = this.options
    const lost = (reason: string): void => {
      if (!this.alive || this.session !== session) return
      onEvent({ event: 'lost', reason })
      if (this.cancelTry === undefined) this.later(this.backoff.nextMs())
    }
    return {
      onOpen: (opening, stream) => this.take(opening, stream),
      onPeerDrain: () => onEvent({ event: 'gateway_drains' }),
      onDetached: lost,
      onAttached: () => undefined,
      onChannelLost: () => undefined,
      onStalled: () => undefined,
      onMove: () => {
        if (this.cancelTry === undefined) this.connect()
      },
      onEnd: (code, detail) => {
        if (FINAL.has(code)) this.refused({ code, detail })
        else lost(detail)
      },
    }
  }

  private take(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    if (opening.kind !== StreamKind.exchange) return errors.refused
    return this.offering.take(opening, stream)
  }
}

// One session of an agent, from its login to its end: its channels, its standing streams, and the exchanges that come over it.
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Session } from '../protocol/session.ts'
import type { StatusSaid } from '../protocol/status.ts'
import { type Opening, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'
import { Channels, type ChannelsOptions, type ChannelState } from './channels.ts'
import { AgentControl } from './control.ts'
import type { AgentEvent } from './events.ts'
import type { Offering } from './offering.ts'
import type { Winner } from './race.ts'
import { AgentStatus } from './status-stream.ts'

export interface ServingOptions extends Omit<ChannelsOptions, 'tell' | 'onChange'> {
  readonly gateway: string
  readonly offering: Offering
  readonly onEvent: (event: AgentEvent) => void
  /** The session is over. `lived`: for so many ms. */
  readonly onEnd: (code: ErrorCode, detail: string, livedMs: number) => void
}

export class Serving {
  readonly session: Session
  private readonly options: ServingOptions
  private readonly channels: Channels
  private readonly control: AgentControl
  private readonly status: AgentStatus
  private readonly kind: string
  private readonly since: number
  /** What was last said of what is served: a push that changes nothing here is no event. */
  private told = ''
  private closed = false

  /** Takes a session that just began over `first`. `draining`: what it finishes is only what is under way. */
  constructor(session: Session, first: Winner, draining: boolean, options: ServingOptions) {
    const { environment } = options.racer
    this.session = session
    this.options = options
    this.kind = first.candidate.kind
    this.since = environment.clock.now()
    this.channels = new Channels(session, first, { ...options, tell: options.onEvent, onChange: () => this.status.changed() })
    session.events = {
      ...this.channels.events,
      onOpen: (opening, stream) => this.take(opening, stream),
      onPeerDrain: () => options.onEvent({ event: 'gateway_drains' }),
      onEnd: (code, detail) => this.ended(code, detail),
    }
    options.offering.allow(session.terms.services)
    const uuid = (): string => environment.random(16).toString('hex')
    this.control = new AgentControl(session, uuid(), draining ? [] : this.serves, (services) => {
      options.offering.allow(services)
      this.control.say(this.serves)
      this.tell()
    })
    this.status = new AgentStatus(session, uuid(), () => this.said)
    if (draining) session.drain()
    this.tell()
  }

  get ageMs(): number {
    return this.options.racer.environment.clock.now() - this.since
  }

  get channelStates(): ChannelState[] {
    return this.channels.states
  }

  /** Has everything left that is to leave? Standing streams do not count. */
  get idle(): boolean {
    return this.session.ended || this.session.streamCount <= (this.status.open ? 2 : 1)
  }

  /** The agent leaves: what is under way breaks, and nothing of it is told. */
  close(): void {
    this.closed = true
    this.channels.close()
    this.status.close()
    this.session.end(errors.draining, 'the agent was closed')
  }

  private get serves(): string[] {
    return this.options.offering.served.map(({ name }) => name)
  }

  private get said(): StatusSaid {
    const channels = this.channelStates.map(({ kind, way, round_trip_ms, lanes }) => ({ kind, way, round_trip_ms, lanes }))
    return { channels, exchanges: this.options.offering.active }
  }

  private tell(): void {
    const { gateway, offering, onEvent } = this.options
    const { served: services, unwanted } = offering
    const told = JSON.stringify([services, unwanted])
    if (told === this.told) return
    this.told = told
    if (unwanted.length > 0) onEvent({ event: 'not_allowed', services: unwanted })
    if (services.length === 0) onEvent({ event: 'nothing_to_serve', gateway })
    else onEvent({ event: 'serving', gateway, channel: this.kind, session: this.session.id, services })
  }

  private take(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    if (opening.kind !== StreamKind.exchange) return errors.refused
    return this.options.offering.take(opening, stream)
  }

  private ended(code: ErrorCode, detail: string): void {
    if (this.closed) return
    this.channels.close()
    this.status.close()
    if (!this.channels.detached) this.options.onEvent({ event: 'lost', reason: detail })
    this.options.onEnd(code, detail, this.ageMs)
  }
}

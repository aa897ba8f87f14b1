// One session of an agent, from its login to its end: its channels, its standing streams, and the exchanges that come over it.
import { type AgentSays, type GatewaySays, REFUSED_MAX_COUNT } from '../protocol/control.ts'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { timesWithin } from '../protocol/login.ts'
import type { Session } from '../protocol/session.ts'
import type { StatusSaid } from '../protocol/status.ts'
import { type Opening, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'
import { Channels, type ChannelsOptions, type ChannelState } from './channels.ts'
import { AgentControl } from './control.ts'
import type { AgentEvent } from './events.ts'
import { type Counted, Monitor } from './monitor.ts'
import type { Offering, Unwell } from './offering.ts'
import type { Pushed } from './pushed.ts'
import type { Winner } from './race.ts'
import { AgentStatus } from './status-stream.ts'

export interface ServingOptions extends Omit<ChannelsOptions, 'tell' | 'onChange'> {
  readonly gateway: string
  readonly offering: Offering
  readonly pushed: Pushed
  /** An older session of this agent serves until this one does. */
  readonly renews: boolean
  readonly onEvent: (event: AgentEvent) => void
  /** The gateway has taken what is served; told again each time when that changed. */
  readonly onTaken: () => void
  /** The gateway has set something. */
  readonly onSettings: () => void
  /** The session is over. `lived`: for so many ms. */
  readonly onEnd: (code: ErrorCode, detail: string, livedMs: number) => void
}

const NOTHING: AgentSays = { serves: [], unhealthy: [], refused: [] }

export class Serving {
  readonly session: Session
  private readonly options: ServingOptions
  private readonly channels: Channels
  private readonly control: AgentControl
  private readonly status: AgentStatus
  private monitor: Monitor | undefined
  private readonly kind: string
  private readonly since: number
  /** What was last said of what is served: a push that changes nothing here is no event. */
  private told = ''
  private unwell: readonly Unwell[] = []
  private taken = false
  private retired = false
  private closed = false

  /** Takes a session that just began over `first`. */
  constructor(session: Session, first: Winner, options: ServingOptions) {
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
    if (session.terms.settings !== undefined) options.pushed.take(session.terms.settings)
    // Too many services for the terms come later: until then those that an older session knows are served.
    if (session.terms.services.length > 0 || !options.renews) options.offering.allow(session.terms.services)
    const uuid = (): string => environment.random(16).toString('hex')
    this.control = new AgentControl(session, uuid(), this.says, () => this.wasTaken(), (said) => this.heard(said))
    this.watch()
    this.status = new AgentStatus(session, uuid(), () => this.said)
    this.tellRefused()
  }

  get ageMs(): number {
    return this.options.racer.environment.clock.now() - this.since
  }

  get channelStates(): ChannelState[] {
    return this.channels.states
  }

  /** Once it was retired: has the gateway heard that, and has all come that it sent before? */
  get settled(): boolean {
    return this.session.ended || this.control.settled
  }

  /** Is no exchange under way? */
  get idle(): boolean {
    return this.session.ended || this.session.streamCount <= (this.status.open ? 2 : 1) + (this.monitor?.open === true ? 1 : 0)
  }

  /** Says from now on how its origins are, and what the gateway's end shows: one session of an agent does, the one that serves. */
  watch(): void {
    this.options.offering.onHealth = () => {
      this.control.say(this.says)
      this.tellHealth()
    }
    this.options.pushed.demands.onChange = () => {
      this.control.say(this.says)
      this.tellRefused()
    }
  }

  /** Another session serves: this one is to get nothing new, and takes what is on its way to it all the same. */
  retire(): void {
    this.retired = true
    this.control.say(this.says)
  }

  /** The agent leaves: what is under way breaks, and nothing of it is told. */
  close(): void {
    this.closed = true
    this.channels.close()
    this.status.close()
    this.session.end(errors.draining, 'the agent was closed')
  }

  private get says(): AgentSays {
    const { offering, pushed } = this.options
    if (this.retired) return NOTHING
    const refused = [...pushed.refused, ...offering.refused].slice(0, REFUSED_MAX_COUNT)
    return { serves: offering.served.map(({ name }) => name), unhealthy: offering.unwell.map(({ name }) => name), refused }
  }

  private get said(): StatusSaid {
    const channels = this.channelStates.map(({ kind, way, round_trip_ms, lanes }) => ({ kind, way, round_trip_ms, lanes }))
    return { channels, exchanges: this.options.offering.active }
  }

  private get counted(): Counted {
    const { offering, racer } = this.options
    const { sentBytes, receivedBytes } = this.session.volume
    return { version: racer.userAgent, exchanges: offering.active, ...offering.counts, sent_bytes: sentBytes, received_bytes: receivedBytes }
  }

  private tell(): void {
    // Visitors are told that they may come once they can; of one that is to get nothing more there is nothing to tell.
    if (this.retired || !this.control.taken) return
    const { gateway, offering, onEvent } = this.options
    const { served: services, unwanted } = offering
    const told = JSON.stringify([services, unwanted])
    if (told === this.told) return
    this.told = told
    if (unwanted.length > 0) onEvent({ event: 'not_allowed', services: unwanted })
    if (services.length === 0) onEvent({ event: 'nothing_to_serve', gateway })
    else onEvent({ event: 'serving', gateway, channel: this.kind, session: this.session.id, services })
  }

  private wasTaken(): void {
    this.taken = true
    this.options.onTaken()
    this.tell()
  }

  private heard(said: GatewaySays): void {
    const { offering, pushed, onSettings } = this.options
    if ('settings' in said) this.session.keepTimes(timesWithin(said.settings, this.session.environment.times))
    // The session that serves hears the same, and perhaps has heard later words than these.
    if (this.retired) return
    if ('services' in said) offering.allow(said.services)
    else pushed.take(said.settings)
    this.control.say(this.says)
    this.tell()
    this.tellRefused()
    if ('settings' in said) onSettings()
  }

  private tellRefused(): void {
    for (const refused of this.options.pushed.news()) this.options.onEvent({ event: 'setting_refused', ...refused })
  }

  private tellHealth(): void {
    const { offering, onEvent } = this.options
    const now = offering.unwell
    for (const unwell of now) if (!this.unwell.some(({ name }) => name === unwell.name)) onEvent({ event: 'origin_unhealthy', ...unwell })
    for (const { name, target } of this.unwell) if (!now.some((unwell) => unwell.name === name)) onEvent({ event: 'origin_healthy', name, target })
    this.unwell = now
  }

  private take(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    if (opening.kind === StreamKind.exchange) return this.options.offering.take(opening, stream)
    // One at a time: nobody who asks needs more, and whoever asks for many is to get no work done here.
    if (opening.kind !== StreamKind.monitor || this.monitor?.open === true) return errors.refused
    return (this.monitor = new Monitor(stream, this.options.racer.environment.clock, () => this.counted))
  }

  private ended(code: ErrorCode, detail: string): void {
    if (this.closed) return
    this.channels.close()
    this.status.close()
    // Where an older session serves, nothing is lost with one that never did.
    if (!this.channels.detached && (this.taken || !this.options.renews)) this.options.onEvent({ event: 'lost', reason: detail })
    this.options.onEnd(code, detail, this.ageMs)
  }
}

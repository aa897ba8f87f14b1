// A session: its lanes, the channels they ride on, and its streams; it outlives any channel (SPEC §5, §10).
import { blame, type Carrier, Channel, type ChannelOwner } from './channel.ts'
import { ChannelProof } from './channel-proof.ts'
import { Budget } from './credit.ts'
import type { Environment, Times } from './environment.ts'
import { type ErrorCode, errorByNumber, errors, PosternError } from './errors.ts'
import { Lane } from './lane.ts'
import { isStanding } from './lane-stream.ts'
import { CHANNELS_MAX_COUNT, SESSION_BUDGET_BYTES, STREAM_ID_MAX } from './limits.ts'
import {
  checkMac,
  decodeLanes,
  Direction,
  encodeChannelOpen,
  encodeLanes,
  encodeMove,
  encodeSettings,
  Kind,
  type LaneMark,
  type MacScope,
  type Policy,
  RECORD_NUMBERED,
  RECORD_SEALED,
  type Settings,
  type Terms,
} from './messages.ts'
import { Reader } from './reader.ts'
import { channelKey, LaneSeal } from './seal.ts'
import { type SessionEvents, SILENT } from './session-events.ts'
import type { Opening, Stream, StreamEvents } from './stream.ts'
import { Traffic, type TrafficOwner } from './traffic.ts'
import { Volume } from './volume.ts'

/** Why something was refused, and the peer's words for it. */
export interface Refusal {
  readonly code: ErrorCode
  readonly detail: string
}

/** A channel of a session, for people. */
export interface ChannelFacts {
  readonly carrier: Carrier
  /** How long its last BEAT took; undefined before the first. */
  readonly roundTripMs: number | undefined
  readonly lanes: readonly number[]
  /** When it became a channel, on the clock of the environment. */
  readonly since: number
  /** Streams of the lanes that ride on it. */
  readonly streams: number
  readonly volume: Readonly<Volume>
}

/** What the four messages of the handshake agreed. */
export interface Agreement {
  /** Which end we are. */
  readonly role: 'agent' | 'gateway'
  readonly sessionId: Buffer
  readonly secret: Buffer
  readonly policy: Policy
  readonly lanes: number
  readonly settings: Settings
  readonly peerSettings: Settings
  readonly terms: Terms
}

/** A channel that was asked for and not yet answered. */
interface Pending {
  readonly channel: Channel
  readonly marks: readonly LaneMark[]
  readonly askedAt: number
  readonly done: (refusal: Refusal | undefined) => void
}

export class Session implements ChannelOwner, TrafficOwner {
  readonly id: string
  readonly role: 'agent' | 'gateway'
  readonly policy: Policy
  readonly terms: Terms
  settings: Settings
  environment: Environment
  readonly budget: Budget
  readonly peerParity: number
  peerSettings: Settings
  peerDraining = false
  /** Streams that we have opened so far; none that stands by itself. */
  openedCount = 0
  ended = false
  readonly volume = new Volume()
  events: SessionEvents = SILENT

  private readonly sessionId: Buffer
  private readonly channelKey: Buffer
  private readonly traffic: Traffic[] = []
  private readonly channels = new Set<Channel>()
  private pending: Pending[] = []
  /** The highest attach count of each lane that we ever said. */
  private readonly tried: number[]
  private lastChannel = 0
  private nextStream: number
  private lastPeerStream = 0
  private ownStreams = 0
  private peerStreams = 0
  private draining = false
  private cancelGrace: (() => void) | undefined
  private readonly reader = new Reader()

  constructor(agreement: Agreement, environment: Environment) {
    const { role, sessionId, secret } = agreement
    this.id = sessionId.toString('hex')
    this.role = role
    this.policy = agreement.policy
    this.terms = agreement.terms
    this.settings = agreement.settings
    this.peerSettings = agreement.peerSettings
    this.environment = environment
    this.budget = new Budget(SESSION_BUDGET_BYTES, environment.budget)
    // The gateway opens even ids, the agent odd ones (SPEC §10).
    this.peerParity = role === 'agent' ? 0 : 1
    this.nextStream = role === 'agent' ? 1 : 0
    this.sessionId = sessionId
    this.channelKey = channelKey(secret)
    this.tried = new Array<number>(agreement.lanes).fill(0)
    const [out, inward] = role === 'agent' ? [Direction.toGateway, Direction.toAgent] : [Direction.toAgent, Direction.toGateway]
    for (let id = 0; id < agreement.lanes; id++) {
      const lane = new Lane(id, agreement.policy, new LaneSeal(secret, out, id), new LaneSeal(secret, inward, id), environment.clock)
      this.traffic.push(new Traffic(lane, this))
    }
  }

  get clock(): Environment['clock'] {
    return this.environment.clock
  }

  /** Does a channel carry it? */
  get attached(): boolean {
    return this.channels.size > 0
  }

  get streamCount(): number {
    return this.ownStreams + this.peerStreams
  }

  /** Streams of the peer's that have come so far, those refused too; none that stands by itself. */
  get cameCount(): number {
    return this.traffic.reduce((sum, { cameCount }) => sum + cameCount, 0)
  }

  /** Has the peer acknowledged all that was to be said? */
  get allArrived(): boolean {
    return this.traffic.every(({ allArrived }) => allArrived)
  }

  /** The shortest round trip of its lanes in the last seconds. */
  get roundTripMs(): number {
    return Math.min(...this.traffic.map((traffic) => traffic.lane.roundTripMs))
  }

  /** The channels it has. */
  get carriers(): Carrier[] {
    return [...this.channels].map((channel) => channel.carrier)
  }

  /** The same with what is known of each. */
  get channelFacts(): ChannelFacts[] {
    return [...this.channels].map((channel) => {
      const { carrier, roundTripMs, since, volume } = channel
      const riding = this.traffic.filter(({ lane }) => lane.ridesOn(channel))
      const streams = riding.reduce((sum, { streamCount }) => sum + streamCount, 0)
      return { carrier, roundTripMs, lanes: riding.map(({ lane }) => lane.id), since, streams, volume }
    })
  }

  /** For each lane the channel it rides on; undefined while it rides on none. */
  get rides(): (Carrier | undefined)[] {
    return this.traffic.map(({ lane }) => [...this.channels].find((channel) => lane.ridesOn(channel))?.carrier)
  }

  /** Those of them that no lane rides on. */
  get idleCarriers(): Carrier[] {
    return [...this.channels].filter((channel) => !this.traffic.some(({ lane }) => lane.ridesOn(channel))).map(({ carrier }) => carrier)
  }

  // --- streams -------------------------------------------------------------------------------------------------------

  /** Opens a stream; undefined at the peer's limit, while too much waits to leave, when the peer drains, or after the end. Throws `head_too_large`. */
  open(opening: Opening, events: StreamEvents): Stream | undefined {
    if (this.ended || this.peerDraining || this.ownStreams >= this.peerSettings.maxStreams || this.nextStream > STREAM_ID_MAX) return undefined
    const traffic = this.leastLoaded()
    if (traffic.crowded) return undefined
    const stream = traffic.open(this.nextStream, opening, events)
    this.nextStream += 2
    // Counted after the fact: a head over the limit opened nothing. A stream is never gone within its own opening.
    this.ownStreams++
    if (!isStanding(opening.kind)) this.openedCount++
    return stream
  }

  /** Tells the peer that we take no more streams. Those that are open go on. */
  drain(): void {
    if (this.draining || this.ended) return
    this.draining = true
    this.traffic[0]!.sendDrain(this.lastPeerStream)
  }

  /** Beats and waits so from now on; the peer is told by other means (SPEC §10.1). */
  keepTimes(times: Times): void {
    const { heartbeatMs, deadAfterMs, graceMs } = this.environment.times
    if (times.heartbeatMs === heartbeatMs && times.deadAfterMs === deadAfterMs && times.graceMs === graceMs) return
    this.environment = { ...this.environment, times }
    for (const channel of [...this.channels]) channel.timesChanged()
  }

  /** Says anew what we take of the peer's streams. */
  announce(settings: Settings): void {
    // A first credit that was said once is honoured: the peer may have begun before it hears of a lesser one.
    this.settings = { ...settings, firstCredit: Math.max(settings.firstCredit, this.settings.firstCredit) }
    this.traffic[0]!.sendSettings(encodeSettings(settings))
  }

  private leastLoaded(): Traffic {
    let best = this.traffic[0]!
    for (const traffic of this.traffic) {
      if (traffic.lane.attached !== best.lane.attached ? traffic.lane.attached : traffic.streamCount < best.streamCount) best = traffic
    }
    return best
  }

  roomForStream(): ErrorCode | undefined {
    if (this.draining) return errors.draining
    return this.peerStreams >= this.settings.maxStreams ? errors.refused : undefined
  }

  streamCame(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    this.peerStreams++
    this.lastPeerStream = Math.max(this.lastPeerStream, stream.id)
    return this.events.onOpen(opening, stream)
  }

  streamGone(own: boolean): void {
    if (own) this.ownStreams--
    else this.peerStreams--
  }

  peerDrains(): void {
    if (this.peerDraining) return
    this.peerDraining = true
    this.events.onPeerDrain()
  }

  // --- channels ------------------------------------------------------------------------------------------------------

  /** The channel of the handshake carries lane 0 from its first record on. */
  begin(carrier: Carrier): void {
    const channel = this.channelOver(carrier, 0)
    this.channels.add(channel)
    const first = this.traffic[0]!
    first.lane.begin(channel)
    channel.counter(0).next = 0
    first.wake()
  }

  /** Agent: opens one more channel and moves `lanes` (all, if not said) to it. */
  openChannel(carrier: Carrier, done: (refusal: Refusal | undefined) => void, lanes: readonly number[] = [...this.tried.keys()]): void {
    if (this.ended) {
      carrier.close()
      return done({ code: errors.unknown_session, detail: 'the session is over' })
    }
    const channel = this.channelOver(carrier, ++this.lastChannel)
    // A way that swallows it must not use up the grace.
    const cancel = this.clock.later(this.environment.times.handshakeMs, () => channel.giveUp(errors.handshake_timeout, errors.handshake_timeout.says))
    const marks = this.askFor(channel, lanes, (refusal) => {
      cancel()
      done(refusal)
    })
    channel.send(encodeChannelOpen(this.scope(channel, Direction.toGateway), marks))
  }

  /** Agent: moves lanes to a channel that the session has already. */
  attach(carrier: Carrier, lanes: readonly number[], done: (refusal: Refusal | undefined) => void): void {
    const channel = [...this.channels].find((known) => known.carrier === carrier)
    if (channel === undefined) return done({ code: errors.unknown_session, detail: 'the channel is not one of the session' })
    this.attachTo(channel, lanes, done)
  }

  private attachTo(channel: Channel, lanes: readonly number[], done: (refusal: Refusal | undefined) => void): void {
    const marks = this.askFor(channel, lanes, done)
    channel.send(encodeLanes(Kind.attach, this.scope(channel, Direction.toGateway), marks))
  }

  /** Gateway: asks the agent to open another channel and leave this one. */
  askToMove(carrier: Carrier, code: ErrorCode): void {
    for (const channel of this.channels) if (channel.carrier === carrier) channel.send(encodeMove(code))
  }

  private askFor(channel: Channel, lanes: readonly number[], done: (refusal: Refusal | undefined) => void): LaneMark[] {
    const marks = lanes.map((lane) => ({ lane, attachCount: ++this.tried[lane]!, expects: this.traffic[lane]!.lane.expects }))
    this.pending.push({ channel, marks, askedAt: this.clock.now(), done })
    return marks
  }

  /** Gateway: takes a channel that opened with CHANNEL_OPEN, or refuses it and changes nothing. */
  acceptChannel(carrier: Carrier, message: Buffer, channelNumber: number, marks: readonly LaneMark[]): Refusal | undefined {
    const scope: MacScope = { channelKey: this.channelKey, direction: Direction.toGateway, sessionId: this.sessionId, channelNumber }
    if (this.ended || !checkMac(scope, message)) return { code: errors.unknown_session, detail: 'no such session, or not its agent' }
    // Overtaken by a later one, or said again by somebody who listened: the session is none the worse.
    if (channelNumber <= this.lastChannel) return { code: errors.stale_attach, detail: `channel ${String(channelNumber)} after ${String(this.lastChannel)}` }
    const refusal = this.checkMarks(marks)
    if (refusal !== undefined) return refusal
    this.lastChannel = channelNumber
    if (this.channels.size >= CHANNELS_MAX_COUNT) this.makeRoom(marks)
    const channel = this.channelOver(carrier, channelNumber)
    try {
      this.welcomeChannel(channel)
      this.grant(channel, Kind.channelOpened, marks)
    } catch (error) {
      // The MAC was right, so this is the agent's doing and not that of whoever knocks.
      this.channelBroken(channel, error)
    }
    return undefined
  }

  // Of channels that were cut in silence the gateway hears nothing for long, while the agent opens one after the other: the oldest that is left without a lane
  // goes. There is one, for there are more channels than lanes.
  private makeRoom(marks: readonly LaneMark[]): void {
    const stays = this.traffic.filter(({ lane }) => !marks.some((mark) => mark.lane === lane.id))
    const oldest = [...this.channels].find((channel) => !stays.some(({ lane }) => lane.ridesOn(channel)))
    oldest?.giveUp(errors.channel_silent, 'a newer channel has its place')
  }

  private channelOver(carrier: Carrier, number: number): Channel {
    carrier.bind?.(new ChannelProof(this.channelKey, this.sessionId, number))
    return new Channel(carrier, number, this)
  }

  private checkMarks(marks: readonly LaneMark[]): Refusal | undefined {
    for (const { lane, attachCount } of marks) {
      const traffic = this.traffic[lane]
      if (traffic === undefined) return { code: errors.protocol_error, detail: `there is no lane ${String(lane)}` }
      if (attachCount <= traffic.lane.attachCount) return { code: errors.stale_attach, detail: errors.stale_attach.says }
    }
    return undefined
  }

  private grant(channel: Channel, kind: number, marks: readonly LaneMark[]): void {
    const answer = marks.map(({ lane, attachCount }) => ({ lane, attachCount, expects: this.traffic[lane]!.lane.expects }))
    channel.send(encodeLanes(kind, this.scope(channel, Direction.toAgent), answer))
    this.moveLanes(channel, marks)
  }

  private moveLanes(channel: Channel, marks: readonly LaneMark[]): void {
    for (const mark of marks) {
      const traffic = this.traffic[mark.lane]!
      channel.counter(mark.lane).next = undefined
      traffic.lane.attach(channel, mark.attachCount, mark.expects)
      traffic.wake()
    }
  }

  private welcomeChannel(channel: Channel): void {
    const wasDetached = !this.attached
    this.channels.add(channel)
    this.cancelGrace?.()
    this.cancelGrace = undefined
    if (wasDetached) this.events.onAttached()
  }

  private scope(channel: Channel, direction: Direction): MacScope {
    return { channelKey: this.channelKey, direction, sessionId: this.sessionId, channelNumber: channel.number }
  }

  // --- messages ------------------------------------------------------------------------------------------------------

  channelMessage(channel: Channel, message: Buffer): void {
    const kind = message[0]!
    if ((kind & ~(RECORD_NUMBERED | RECORD_SEALED)) === Kind.record) return this.takeRecord(channel, message)
    if (this.role === 'gateway' && kind === Kind.attach) return this.takeAttach(channel, message)
    if (this.role === 'agent' && (kind === Kind.channelOpened || kind === Kind.attached)) return this.takeGrant(channel, message)
    if (this.role === 'agent' && kind === Kind.move) {
      return this.events.onMove(errorByNumber(this.reader.set(message, 1).varint()), channel.carrier)
    }
    throw new PosternError(errors.protocol_error, `a message of kind ${String(kind)} where none may come`)
  }

  private takeRecord(channel: Channel, message: Buffer): void {
    const id = this.reader.set(message, 1).varint()
    const traffic = this.traffic[id]
    if (traffic === undefined) throw new PosternError(errors.protocol_error, `a record of lane ${String(id)}`)
    const record = traffic.lane.receive(message, channel, channel.counter(id))
    if (record !== undefined) traffic.take(record.payload, record.sealed)
  }

  private takeAttach(channel: Channel, message: Buffer): void {
    const marks = decodeLanes(message)
    if (!checkMac(this.scope(channel, Direction.toGateway), message)) throw new PosternError(errors.protocol_error, 'an ATTACH with a wrong MAC')
    const refusal = this.checkMarks(marks)
    if (refusal !== undefined) return channel.close(refusal.code, refusal.detail)
    this.grant(channel, Kind.attached, marks)
  }

  private takeGrant(channel: Channel, message: Buffer): void {
    const at = this.pending.findIndex((pending) => pending.channel === channel)
    const marks = decodeLanes(message)
    const pending = this.pending[at]
    if (pending === undefined || !checkMac(this.scope(channel, Direction.toAgent), message) || !answers(marks, pending.marks)) {
      throw new PosternError(errors.protocol_error, 'an answer to no attach of ours')
    }
    this.pending.splice(at, 1)
    // Before its first BEAT: on a far link its patience would be too short until then.
    channel.roundTripMs ??= this.clock.now() - pending.askedAt
    this.welcomeChannel(channel)
    // A later try may have been answered first.
    this.moveLanes(channel, marks.filter((mark) => mark.attachCount > this.traffic[mark.lane]!.lane.attachCount))
    pending.done(undefined)
  }

  // --- what channels tell --------------------------------------------------------------------------------------------

  channelDrained(channel: Channel): void {
    for (const traffic of this.traffic) if (traffic.lane.ridesOn(channel)) traffic.wake()
  }

  channelStalled(channel: Channel): void {
    if (this.channels.has(channel)) this.events.onStalled(channel.carrier)
  }

  oldestUnacked(channel: Channel): number {
    return Math.min(...this.traffic.map(({ lane }) => (lane.ridesOn(channel) ? lane.oldestUnacked : Infinity)))
  }

  channelBroken(channel: Channel, error: unknown): void {
    const { code, detail } = blame(error)
    channel.close(code, code === errors.protocol_error ? detail : code.says)
    this.end(code, detail)
  }

  channelClosed(channel: Channel, code: ErrorCode | undefined, reason: string): void {
    const refused = this.pending.filter((pending) => pending.channel === channel)
    this.pending = this.pending.filter((pending) => pending.channel !== channel)
    // One that a later try has attached since rides there, whatever became of this one.
    const open = ({ lane, attachCount }: LaneMark): boolean => attachCount > this.traffic[lane]!.lane.attachCount
    const lanes = new Set(refused.flatMap(({ marks }) => marks.filter(open).map(({ lane }) => lane)))
    for (const { lane } of this.traffic) {
      if (!lane.ridesOn(channel)) continue
      lane.detach()
      lanes.add(lane.id)
    }
    const was = this.channels.delete(channel)
    for (const { done } of refused) done({ code: code ?? errors.agent_lost, detail: reason })
    if (this.ended) return
    if (was && code !== undefined && ENDING.has(code)) return this.end(code, reason)
    if (was) this.events.onChannelLost(channel.carrier, reason)
    if (this.channels.size > 0) return this.reattach(lanes)
    if (!was) return
    this.cancelGrace = this.clock.later(this.environment.times.graceMs, () => this.end(errors.agent_lost, `no channel came back: ${reason}`))
    this.events.onDetached(reason)
  }

  // Agent: lanes that rode on a channel which is gone have no other yet. Those that were asked for on it may ride there in the eyes of the
  // gateway, whose answer was lost: it would hear them nowhere else for ever.
  private reattach(lanes: ReadonlySet<number>): void {
    if (this.role === 'gateway') return
    const homeless = [...lanes].filter((lane) => !this.pending.some(({ marks }) => marks.some((mark) => mark.lane === lane)))
    if (homeless.length > 0) this.attachTo([...this.channels].at(-1)!, homeless, nothing)
  }

  /** Ends it: every stream is reset, every channel is told why. */
  end(code: ErrorCode, detail: string): void {
    if (this.ended) return
    this.ended = true
    this.cancelGrace?.()
    for (const traffic of this.traffic) traffic.end(code.status === 0 ? errors.agent_lost : code)
    for (const channel of [...this.channels, ...this.pending.map((pending) => pending.channel)]) channel.close(code, code.fault === 'gateway' ? code.says : detail)
    this.events.onEnd(code, detail)
  }
}

/** A CLOSE with one of these gives up the session, not only the channel. */
const ENDING: ReadonlySet<ErrorCode> = new Set([
  errors.protocol_error,
  errors.gateway_fault,
  errors.revoked,
  errors.replaced,
  errors.agent_lost,
  errors.draining,
  errors.unknown_session,
  errors.gateway_leaving,
])

function answers(marks: readonly LaneMark[], asked: readonly LaneMark[]): boolean {
  return marks.length === asked.length && marks.every((mark, i) => mark.lane === asked[i]!.lane && mark.attachCount === asked[i]!.attachCount)
}

const nothing = (): void => undefined

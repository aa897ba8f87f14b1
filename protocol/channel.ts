// A channel: one carrier under a session, its signs of life and which records came over it (SPEC §2), and the contract of a carrier.
import type { ChannelProof } from './channel-proof.ts'
import type { Environment } from './environment.ts'
import { type ErrorCode, errors, PosternError } from './errors.ts'
import type { Ride } from './lane.ts'
import { ROUND_TRIP_FLOOR_MS, STALLED_AFTER_MS, STALLED_AFTER_ROUND_TRIPS } from './limits.ts'
import { decodeBeat, decodeClose, encodeBeat, encodeClose, Kind } from './messages.ts'
import { Volume } from './volume.ts'

/** One end of one transport: messages in order, whatever it is made of. Its owner sets the three callbacks before the turn ends in which it got the carrier. */
export interface Carrier {
  /** `websocket`, `http2`, `tcp`, `sse`, `long-poll` or `pipe`. */
  readonly kind: string
  /** Where the other end is, for people. */
  readonly peer: string
  /** The nginx worker ($pid) it came through; 0 if none or unknown. */
  readonly worker: number
  /** Every message up costs a request: the agent alone asks for signs of life (SPEC §14). */
  readonly quiet?: boolean
  /** It belongs to a session from now on: what proves its requests, where it is made of requests. Called once. */
  bind?(proof: ChannelProof): void
  /** At least so many bytes of what was sent are still looked at by the transport. Not known: all of them may be. */
  readonly queuedBytes?: number
  /** Sends a message (not copied). False: wait for onDrain before sending more than heartbeats. */
  send(message: Buffer): boolean
  /** Closes after what was sent has left; `abort` at once. onClosed follows either way, once. */
  close(): void
  abort(): void
  onMessage: (message: Buffer) => void
  onDrain: () => void
  onClosed: (reason: string) => void
}

/** What a channel tells its session. */
export interface ChannelOwner {
  readonly environment: Environment
  readonly role: 'agent' | 'gateway'
  readonly volume: Volume
  /** Any message that is not a heartbeat. What it throws closes the channel. */
  channelMessage(channel: Channel, message: Buffer): void
  channelDrained(channel: Channel): void
  /** Agent: what we said waits for an answer too long, and nothing else comes either. Told again only after something came. */
  channelStalled(channel: Channel): void
  /** When the oldest record was sent over it that is not acknowledged; Infinity if there is none. */
  oldestUnacked(channel: Channel): number
  channelClosed(channel: Channel, code: ErrorCode | undefined, reason: string): void
  /** A message over the channel broke the rules, or our code did. */
  channelBroken(channel: Channel, error: unknown): void
}

export class Channel implements Ride {
  readonly carrier: Carrier
  readonly number: number
  writable = true
  /** The number of the next record on each lane that came over this channel; undefined until one said its number. */
  readonly counters = new Map<number, { next: number | undefined }>()
  roundTripMs: number | undefined
  readonly since: number
  readonly volume = new Volume()
  private readonly owner: ChannelOwner
  private cameAt: number
  private beatNumber = 0
  private beatAt = 0
  private answered = true
  private stalled = false
  private closed = false
  /** We said CLOSE: nothing goes out or is heard any more. */
  private closing = false
  private closeCode: ErrorCode | undefined
  private closeReason: string | undefined
  private cancelBeat: () => void
  private cancelWait: (() => void) | undefined

  constructor(carrier: Carrier, number: number, owner: ChannelOwner) {
    this.carrier = carrier
    this.number = number
    this.owner = owner
    this.since = owner.environment.clock.now()
    this.cameAt = this.since
    this.cancelBeat = owner.environment.clock.later(owner.environment.times.heartbeatMs, () => this.beat())
    carrier.onMessage = (message) => this.take(message)
    carrier.onDrain = () => {
      this.writable = true
      owner.channelDrained(this)
    }
    carrier.onClosed = (reason) => this.gone(reason)
  }

  get isClosed(): boolean {
    return this.closed
  }

  send(message: Buffer): void {
    if (this.closing) return
    this.volume.sentBytes += message.length
    this.owner.volume.sentBytes += message.length
    if (!this.carrier.send(message)) this.writable = false
  }

  /** Says why, then closes. */
  close(code: ErrorCode, detail: string): void {
    if (this.closing || this.closed) return
    this.closing = true
    this.closeCode ??= code
    this.closeReason ??= detail
    this.carrier.send(encodeClose(code, detail))
    this.carrier.close()
  }

  /** Cuts it at once: whoever is at the other end says nothing. */
  giveUp(code: ErrorCode, reason: string): void {
    this.closeCode ??= code
    this.closeReason ??= reason
    this.carrier.abort()
    // A carrier whose peer is gone may take long to say so.
    this.gone('aborted')
  }

  get sentBytes(): number {
    return this.volume.sentBytes
  }

  get leftBytes(): number {
    return this.volume.sentBytes - (this.carrier.queuedBytes ?? Infinity)
  }

  counter(lane: number): { next: number | undefined } {
    let counter = this.counters.get(lane)
    if (counter === undefined) this.counters.set(lane, (counter = { next: undefined }))
    return counter
  }

  private take(message: Buffer): void {
    if (this.closing || this.closed) return
    this.cameAt = this.owner.environment.clock.now()
    this.stalled = false
    this.volume.receivedBytes += message.length
    this.owner.volume.receivedBytes += message.length
    try {
      if (message[0] === Kind.beat) this.takeBeat(message)
      else if (message[0] === Kind.close) this.takeClose(message)
      else this.owner.channelMessage(this, message)
    } catch (error) {
      this.owner.channelBroken(this, error)
    }
  }

  private takeBeat(message: Buffer): void {
    const { answer, number } = decodeBeat(message)
    if (!answer) this.send(encodeBeat(true, number))
    else if (number === this.beatNumber) {
      this.answered = true
      this.roundTripMs = this.owner.environment.clock.now() - this.beatAt
    }
  }

  private takeClose(message: Buffer): void {
    const { code, detail } = decodeClose(message)
    this.closeCode ??= code
    this.closeReason ??= detail === '' ? code.says : detail
    this.closing = true
    this.carrier.close()
  }

  private beat(): void {
    const { clock, times } = this.owner.environment
    const silentMs = clock.now() - this.cameAt
    if (silentMs >= times.deadAfterMs) {
      this.giveUp(errors.channel_silent, `nothing came for ${String(Math.round(silentMs))} ms`)
      return
    }
    if (this.owner.role === 'agent' || this.carrier.quiet !== true) this.ask()
    this.cancelBeat = clock.later(Math.min(times.heartbeatMs, Math.max(1, times.deadAfterMs - silentMs)), () => this.beat())
  }

  /** Other times count from now on. What did not come as often as they want it is not held against whoever has yet to hear of them. */
  timesChanged(): void {
    if (this.closed) return
    this.cameAt = this.owner.environment.clock.now()
    this.cancelBeat()
    this.beat()
  }

  private ask(): void {
    this.beatNumber = (this.beatNumber + 1) >>> 0
    this.beatAt = this.owner.environment.clock.now()
    this.answered = false
    this.send(encodeBeat(false, this.beatNumber))
    this.waitsSince(this.beatAt)
  }

  /** How long an answer may be under way while nothing else comes: then the channel counts as stalled. */
  get patienceMs(): number {
    return Math.max(STALLED_AFTER_MS, STALLED_AFTER_ROUND_TRIPS * (this.roundTripMs ?? ROUND_TRIP_FLOOR_MS))
  }

  /** Agent: something was said at `at` that is to be answered. Looks once the patience for it is over whether the channel has stalled. */
  waitsSince(at: number): void {
    if (this.owner.role !== 'agent' || this.cancelWait !== undefined || this.closed) return
    const { clock } = this.owner.environment
    this.cancelWait = clock.later(Math.max(1, at + this.patienceMs - clock.now()), () => {
      this.cancelWait = undefined
      this.look()
    })
  }

  // A slow link brings acks all the time; one that brings nothing, though something waits for an answer, is as good as dead.
  private look(): void {
    const waits = Math.min(this.answered ? Infinity : this.beatAt, this.owner.oldestUnacked(this))
    if (waits === Infinity || this.stalled) return
    const since = Math.max(waits, this.cameAt)
    if (this.owner.environment.clock.now() - since < this.patienceMs) return this.waitsSince(since)
    this.stalled = true
    this.owner.channelStalled(this)
  }

  private gone(reason: string): void {
    if (this.closed) return
    this.closed = true
    this.cancelBeat()
    this.cancelWait?.()
    this.owner.channelClosed(this, this.closeCode, this.closeReason ?? reason)
  }
}

/** The row and the words for whatever was thrown while a message was read. */
export function blame(error: unknown): { code: ErrorCode; detail: string } {
  if (error instanceof PosternError) return { code: error.code, detail: error.message }
  return { code: errors.gateway_fault, detail: error instanceof Error ? (error.stack ?? error.message) : String(error) }
}

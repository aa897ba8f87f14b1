// A lane: numbered records in each direction, kept until acknowledged, sent again when it moves to another channel (SPEC §5-§7).
import type { Clock } from './clock.ts'
import { errors, PosternError } from './errors.ts'
import { GIVEN_BACK_MIN_BYTES, giveBack } from './give-back.ts'
import {
  ACK_AFTER_BYTES,
  ACK_AFTER_RECORDS,
  ACKS_KEPT_MAX_COUNT,
  IN_FLIGHT_MAX_BYTES,
  IN_FLIGHT_MIN_BYTES,
  RECORD_PAYLOAD_MAX_BYTES,
  ROUND_TRIP_FLOOR_MS,
  SEAL_TAG_BYTES,
  TURN_MAX_BYTES,
  TURN_MIN_BYTES,
  TURN_MS,
} from './limits.ts'
import { Kind, type Policy, RECORD_NUMBERED, RECORD_SEALED } from './messages.ts'
import { Reader } from './reader.ts'
import type { LaneSeal } from './seal.ts'
import { cut } from './slab.ts'
import { varintSize, writeVarint } from './varint.ts'

/** Kind 1, lane ≤ 4, attach count ≤ 8 and number ≤ 8 bytes stand before a payload. */
const RECORD_HEADROOM_BYTES = 24

/** What a lane needs of the channel it rides on. */
export interface Ride {
  readonly writable: boolean
  /** Bytes that were sent over it, and how many of them the transport does not look at any more. */
  readonly sentBytes: number
  readonly leftBytes: number
  send(message: Buffer): void
  /** Something was sent at that time which is to be answered. */
  waitsSince(at: number): void
}

interface SentRecord {
  readonly number: number
  readonly sealed: boolean
  readonly payload: Buffer
  /** Only ACK inside: asks for none, is not counted. */
  readonly ackOnly: boolean
  /** Bytes that had been sent over its channel when it was. */
  sentBytes: number
  sentAt: number
  deliveredBefore: number
}

/** The best rate is remembered for two of these. */
const MEMORY_MS = 1_000
/** A round trip shorter than a turn of the event loop can't be measured by it. */
const SHORTEST_SAMPLE_MS = 0.25

export class Lane {
  readonly id: number
  attachCount = 0
  private ride: Ride | undefined
  private readonly policy: Policy
  private readonly out: LaneSeal
  private readonly in: LaneSeal
  private readonly clock: Clock

  private nextNumber = 0
  private sent: SentRecord[] = []
  private sentFrom = 0
  private inFlight = 0
  private acksKept = 0
  private delivered = 0
  private sayNumber = false
  /** Where those in `sent` begin that are still to be sent again, since the lane moved; undefined when all have been. */
  private againFrom: number | undefined
  /** The first record that no channel before this one had. */
  private movedAt = 0

  private expected = 0
  private ackedToPeer = 0
  private unackedBytes = 0
  private unackedRecords = 0

  private bytesPerMs = 0
  private bestBefore = 0
  private shortest = Infinity
  private memoryFrom = 0
  private readonly reader = new Reader()

  constructor(id: number, policy: Policy, out: LaneSeal, inward: LaneSeal, clock: Clock) {
    this.id = id
    this.policy = policy
    this.out = out
    this.in = inward
    this.clock = clock
  }

  /** Which record of the peer comes next: what ATTACH says. */
  get expects(): number {
    return this.expected
  }

  get attached(): boolean {
    return this.ride !== undefined
  }

  ridesOn(ride: Ride): boolean {
    return this.ride === ride
  }

  /** May a record with more than acks leave now? */
  get open(): boolean {
    return this.ride !== undefined && this.ride.writable && this.inFlight < this.bound
  }

  /** W of SPEC §7. */
  get bound(): number {
    const twice = 2 * this.rate * Math.max(this.roundTripMs, ROUND_TRIP_FLOOR_MS)
    return Math.min(Math.max(twice, IN_FLIGHT_MIN_BYTES), IN_FLIGHT_MAX_BYTES)
  }

  /** A stream's turn: what the lane delivers in 20 ms. */
  get turnBytes(): number {
    return Math.floor(Math.min(Math.max(this.rate * TURN_MS, TURN_MIN_BYTES), TURN_MAX_BYTES))
  }

  /**
   * The shortest round trip since the lane was attached; the floor as long as none was seen. Not the last one: while a slow link
   * is full, what waits in front of it is most of the round trip, and a bound made from that would double itself with every look.
   */
  get roundTripMs(): number {
    return this.shortest === Infinity ? ROUND_TRIP_FLOOR_MS : this.shortest
  }

  private get rate(): number {
    return Math.max(this.bytesPerMs, this.bestBefore)
  }

  // --- sending -------------------------------------------------------------------------------------------------------

  /** Numbers a payload and sends it; the bytes are copied. */
  send(plain: Buffer, sealed: boolean, ackOnly: boolean, now: number): void {
    const number = this.nextNumber++
    const message = place(RECORD_HEADROOM_BYTES + plain.length + (sealed ? SEAL_TAG_BYTES : 0), ackOnly)
    if (sealed) this.out.seal(number, plain, message, RECORD_HEADROOM_BYTES)
    else plain.copy(message, RECORD_HEADROOM_BYTES)
    const payload = message.subarray(RECORD_HEADROOM_BYTES)
    if (ackOnly) this.acksKept++
    else this.inFlight += payload.length
    const from = this.writeHeader(message, RECORD_HEADROOM_BYTES, number, sealed, this.sayNumber)
    this.sayNumber = false
    const ride = this.ride!
    ride.send(message.subarray(from))
    this.sent.push({ number, sealed, payload, ackOnly, sentBytes: ride.sentBytes, sentAt: now, deliveredBefore: this.delivered })
    if (!ackOnly) ride.waitsSince(now)
  }

  // Writes the header so that it ends where the payload starts; returns where it begins.
  private writeHeader(into: Buffer, payloadStart: number, number: number, sealed: boolean, numbered: boolean): number {
    const from = payloadStart - 1 - varintSize(this.id) - (numbered ? varintSize(this.attachCount) + varintSize(number) : 0)
    into[from] = Kind.record | (sealed ? RECORD_SEALED : 0) | (numbered ? RECORD_NUMBERED : 0)
    const at = writeVarint(into, from + 1, this.id)
    if (numbered) writeVarint(into, writeVarint(into, at, this.attachCount), number)
    return from
  }

  /** When the oldest record was sent that is not acknowledged and asks to be; Infinity if there is none. */
  get oldestUnacked(): number {
    if (this.inFlight === 0) return Infinity
    for (let i = this.sentFrom; i < this.sent.length; i++) if (!this.sent[i]!.ackOnly) return this.sent[i]!.sentAt
    return Infinity
  }

  /** The peer has so many of our records. `left`: bytes that the channel does not look at any more. */
  acked(count: number, now: number, left = this.ride?.leftBytes ?? 0): void {
    if (count > this.nextNumber) throw new PosternError(errors.protocol_error, `an ack of ${String(count)} records, ${String(this.nextNumber)} were sent`)
    let last: SentRecord | undefined
    while (this.sentFrom < this.sent.length && this.sent[this.sentFrom]!.number < count) {
      const record = this.sent[this.sentFrom]!
      this.sent[this.sentFrom++] = RELEASED
      if (record.ackOnly) {
        this.acksKept--
        continue
      }
      this.inFlight -= record.payload.length
      this.delivered += record.payload.length
      last = record
      // No channel before this one may look at it, nor this one: a peer that acknowledges what it never got would have us send what lies there next.
      if (record.number >= this.movedAt && record.sentBytes <= left) giveBack(record.payload)
    }
    if (this.sentFrom > 64 && this.sentFrom * 2 > this.sent.length) {
      this.sent = this.sent.slice(this.sentFrom)
      if (this.againFrom !== undefined) this.againFrom -= this.sentFrom
      this.sentFrom = 0
    }
    if (last !== undefined) this.sample(now, now - last.sentAt, this.delivered - last.deliveredBefore)
  }

  private sample(now: number, tookMs: number, bytes: number): void {
    if (now - this.memoryFrom > MEMORY_MS) {
      this.memoryFrom = now
      this.bestBefore = this.bytesPerMs
      this.bytesPerMs = 0
    }
    const took = Math.max(tookMs, SHORTEST_SAMPLE_MS)
    this.shortest = Math.min(this.shortest, took)
    this.bytesPerMs = Math.max(this.bytesPerMs, bytes / took)
  }

  // --- receiving -----------------------------------------------------------------------------------------------------

  /**
   * Takes a RECORD message that came over `ride`; returns its plain payload, or undefined if it is to be dropped (already had, or from a
   * channel the lane has left).
   */
  receive(message: Buffer, ride: Ride, counter: { next: number | undefined }): { payload: Buffer; sealed: boolean } | undefined {
    const kind = message[0]!
    const reader = this.reader.set(message, 1)
    reader.varint()
    if ((kind & RECORD_NUMBERED) !== 0) {
      const attachCount = reader.varint()
      const number = reader.varint()
      counter.next = attachCount === this.attachCount ? number : undefined
    }
    // Sent before the lane was attached to this channel, or anew: what is missing will be sent again.
    if (counter.next === undefined) return undefined
    const number = counter.next++
    if (this.ride !== ride || number < this.expected) return undefined
    if (number > this.expected) throw new PosternError(errors.protocol_error, `record ${String(number)} where ${String(this.expected)} was next`)
    const sealed = (kind & RECORD_SEALED) !== 0
    if (!sealed && this.policy === 'always') throw new PosternError(errors.protocol_error, 'a record that is not sealed')
    const body = reader.rest()
    const payload = sealed ? this.in.open(number, body) : body
    if (payload.length === 0 || payload.length > RECORD_PAYLOAD_MAX_BYTES) throw new PosternError(errors.protocol_error, `a record of ${String(payload.length)} bytes`)
    this.expected = number + 1
    return { payload, sealed }
  }

  /** Notes that a record with more than acks came; true if an ack is due at once. */
  owesAck(bytes: number): boolean {
    if (this.acksKept > ACKS_KEPT_MAX_COUNT) throw new PosternError(errors.protocol_error, 'too many acks are not acknowledged')
    this.unackedBytes += bytes
    this.unackedRecords++
    return this.unackedBytes >= ACK_AFTER_BYTES || this.unackedRecords >= ACK_AFTER_RECORDS
  }

  /** Does a record wait for our ack? */
  get ackOwed(): boolean {
    return this.unackedRecords > 0
  }

  /** The count to say in an ACK that leaves now, or undefined if the peer knows it already. */
  takeAck(): number | undefined {
    if (this.expected === this.ackedToPeer) return undefined
    this.ackedToPeer = this.expected
    this.unackedBytes = 0
    this.unackedRecords = 0
    return this.expected
  }

  // --- moving --------------------------------------------------------------------------------------------------------

  /**
   * From now on the lane rides on `ride`; what the peer does not have is to be sent again over it by {@link catchUp}. Acks that came over
   * the old channel meanwhile may have overtaken `peerExpects`.
   */
  attach(ride: Ride, attachCount: number, peerExpects: number): void {
    // What the channel that it leaves still looks at is not for sure.
    this.acked(peerExpects, this.clock.now(), 0)
    this.ride = ride
    this.attachCount = attachCount
    this.sayNumber = true
    this.shortest = Infinity
    this.againFrom = this.sentFrom
    this.movedAt = this.nextNumber
  }

  /** A new lane begins on the channel of the handshake. */
  begin(ride: Ride): void {
    this.ride = ride
  }

  detach(): void {
    this.ride = undefined
  }

  /**
   * Sends again what was kept when the lane moved, the same bytes, as fast as the channel takes them: a peer that moves a lane over and over
   * must not make us hold what is kept once for each time. False while some of it waits, and nothing new may leave.
   */
  catchUp(now: number): boolean {
    if (this.againFrom === undefined) return true
    for (let i = Math.max(this.againFrom, this.sentFrom); i < this.sent.length; i++) {
      this.againFrom = i
      if (this.ride?.writable !== true) return false
      this.sendAgain(this.ride, this.sent[i]!, now)
    }
    this.againFrom = undefined
    return true
  }

  // A copy: the old channel may still hold the message we sent first, header and all.
  private sendAgain(ride: Ride, record: SentRecord, now: number): void {
    const message = Buffer.allocUnsafe(RECORD_HEADROOM_BYTES + record.payload.length)
    record.payload.copy(message, RECORD_HEADROOM_BYTES)
    record.sentAt = now
    record.deliveredBefore = this.delivered
    const from = this.writeHeader(message, RECORD_HEADROOM_BYTES, record.number, record.sealed, true)
    ride.send(message.subarray(from))
    ride.waitsSince(now)
  }
}

/**
 * Memory for a record that is kept. A large one has its own, to be given back when it is acknowledged; one of acks alone may be kept for hours, and
 * must not hold the memory of its neighbours meanwhile.
 */
function place(bytes: number, ackOnly: boolean): Buffer {
  return ackOnly || bytes >= GIVEN_BACK_MIN_BYTES ? Buffer.allocUnsafeSlow(bytes) : cut(bytes)
}

const RELEASED: SentRecord = { number: -1, sealed: false, payload: Buffer.alloc(0), ackOnly: true, sentBytes: 0, sentAt: 0, deliveredBefore: 0 }

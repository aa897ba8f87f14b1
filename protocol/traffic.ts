// The streams of one lane: whose turn it is, what goes into the next record, and what a received record means (SPEC §7, §8, §10).
import type { Budget } from './credit.ts'
import { type ErrorCode, errorByNumber, errors, PosternError } from './errors.ts'
import {
  DATA_OVERHEAD_BYTES,
  encodePing,
  encodeRefusal,
  endContents,
  FLAG_END,
  Frame,
  frameSize,
  numbersContents,
  openContents,
  PING_BYTES,
  SKIP_BIT,
  UUID_BYTES,
  writeEnd,
  writeHeadFrame,
  writeNumbers,
  writeOpen,
} from './frames.ts'
import { readExtension, readFields } from './head.ts'
import type { Lane } from './lane.ts'
import { isStanding, LaneStream, type StreamDesk } from './lane-stream.ts'
import { ACK_AFTER_MS, FRAMES_WAITING_MAX_COUNT, OPENS_WAITING_MAX_BYTES, OPENS_WAITING_MAX_COUNT, RECORD_PAYLOAD_MAX_BYTES, SERVICE_NAME_MAX_BYTES } from './limits.ts'
import { type Policy, readSettings, type Settings } from './messages.ts'
import { Outbox } from './outbox.ts'
import { Reader } from './reader.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents, StreamKind } from './stream.ts'
import { StreamTable } from './stream-table.ts'
import type { Clock } from './clock.ts'
import { Turns } from './turns.ts'

/** What the streams of a lane need of their session. */
export interface TrafficOwner {
  readonly policy: Policy
  readonly clock: Clock
  readonly budget: Budget
  /** What the peer said it takes, and what we said. */
  peerSettings: Settings
  readonly settings: Settings
  /** The id that the peer's streams have in common: 0 if they are even, 1 if odd. */
  readonly peerParity: number
  /** May the peer open one more stream? */
  roomForStream(): ErrorCode | undefined
  streamCame(opening: Opening, stream: Stream): StreamEvents | ErrorCode
  streamGone(own: boolean): void
  peerDrains(): void
}

/** A DATA frame of fewer bytes than this is not worth the rest of a record. */
const DATA_WORTH_BYTES = 512

/** A chunk is a view if it is at least a fourth of the memory it lies in, and copied if it is less. */
const VIEW_SHARE = 4

// The lane makes a record of it in memory of its own, so what goes into one can be gathered in the same place every time.
const plain = Buffer.allocUnsafeSlow(RECORD_PAYLOAD_MAX_BYTES)

export class Traffic implements StreamDesk {
  readonly lane: Lane
  private readonly owner: TrafficOwner
  private readonly streams = new StreamTable()
  private lastOwn = -1
  /** The peer's highest ids: standing streams leave first, and may so overtake others that were opened before them. */
  private lastPeer = -1
  private lastPeerStanding = -1

  /** Standing streams, SETTINGS and DRAIN: sealed under every policy, and first. */
  private readonly urgent = new Outbox()
  private readonly urgentTurns = new Turns()
  private readonly ordinary = new Outbox()
  private readonly turns = new Turns()
  /** Streams that the peer has opened on this lane; those that stand by themselves come when they like. */
  cameCount = 0
  private ackNow = false
  private ackTimer = false
  private scheduled = false
  private ended = false
  private readonly waiting: LaneStream[] = []
  private readonly reader = new Reader()
  private readonly flushSoon = (): void => {
    this.scheduled = false
    this.flush()
  }

  constructor(lane: Lane, owner: TrafficOwner) {
    this.lane = lane
    this.owner = owner
  }

  get streamCount(): number {
    return this.streams.count
  }

  /** Has the peer acknowledged all that was to leave? Acks do not count. */
  get allArrived(): boolean {
    return !this.hasWork && this.lane.oldestUnacked === Infinity
  }

  /** Does too much wait to leave for one more stream to be opened? */
  get crowded(): boolean {
    return this.ordinary.count > OPENS_WAITING_MAX_COUNT || this.ordinary.bytes > OPENS_WAITING_MAX_BYTES
  }

  now(): number {
    return this.owner.clock.now()
  }

  get roundTripMs(): number {
    return this.lane.roundTripMs
  }

  /** Opens a stream under an id that is the session's next. Throws `head_too_large`. */
  open(id: number, opening: Opening, events: StreamEvents): Stream {
    const stream = new LaneStream(this, id, opening.kind, true, this.owner.peerSettings.firstCredit, 0, this.owner.budget)
    const credit = stream.creditGiven
    let bare: number
    try {
      bare = openContents(id, opening, credit, 0)
    } catch (error) {
      stream.leave()
      throw error
    }
    stream.events = events
    const inlined = stream.inlines(bare, opening.body.length) ? opening.body : EMPTY
    const contents = bare + inlined.length
    this.streams.add(stream)
    this.lastOwn = id
    const piece = this.outboxOf(stream).room(frameSize(contents))
    const done = opening.ended && inlined.length === opening.body.length
    piece.used = writeOpen(piece.buffer, piece.used, contents, id, opening, credit, inlined, done)
    this.wake()
    stream.afterOpen(opening, inlined.length)
    return stream
  }

  sendSettings(encoded: Buffer): void {
    this.urgent.add(Buffer.concat([Buffer.of(Frame.settings, encoded.length), encoded]))
    this.wake()
  }

  sendDrain(lastId: number): void {
    this.sendNumbers(this.urgent, Frame.drain, lastId)
  }

  /** Ends every stream with `code`; nothing is sent any more. */
  end(code: ErrorCode): void {
    this.ended = true
    this.urgent.clear()
    this.ordinary.clear()
    for (const stream of this.streams.all()) stream.receiveReset(code, true)
  }

  // --- what streams want sent ----------------------------------------------------------------------------------------

  sendHead(stream: LaneStream, contents: number, fields: Fields, extension: Fields, body: Uint8Array, ended: boolean): void {
    const piece = this.outboxOf(stream).room(frameSize(contents))
    piece.used = writeHeadFrame(piece.buffer, piece.used, contents, stream.id, fields, extension, body, ended)
    this.wake()
  }

  sendEnd(stream: LaneStream, trailers: Fields, extension: Fields): void {
    const contents = endContents(stream.id, trailers, extension)
    const piece = this.outboxOf(stream).room(frameSize(contents))
    piece.used = writeEnd(piece.buffer, piece.used, contents, stream.id, trailers, extension)
    this.wake()
  }

  sendStop(stream: LaneStream, code: ErrorCode): void {
    this.outboxOf(stream).add(encodeRefusal(Frame.stop, stream.id, code, false))
    this.wake()
  }

  sendReset(stream: LaneStream, code: ErrorCode, begun: boolean): void {
    this.outboxOf(stream).add(encodeRefusal(Frame.reset, stream.id, code, begun))
    this.wake()
  }

  sendCredit(stream: LaneStream, upTo: number): void {
    this.sendNumbers(this.outboxOf(stream), Frame.credit, stream.id, upTo)
  }

  wantsTurn(stream: LaneStream): void {
    this.turnsOf(stream).add(stream)
    this.wake()
  }

  gone(stream: LaneStream): void {
    if (!this.streams.remove(stream)) return
    if (stream.inRing) this.turnsOf(stream).remove(stream)
    this.owner.streamGone((stream.id & 1) !== this.owner.peerParity)
  }

  private sendNumbers(outbox: Outbox, type: number, a: number, b?: number): void {
    const piece = outbox.room(frameSize(numbersContents(a, b)))
    piece.used = writeNumbers(piece.buffer, piece.used, type, a, b)
    this.wake()
  }

  private outboxOf(stream: LaneStream): Outbox {
    return stream.standing ? this.urgent : this.ordinary
  }

  private turnsOf(stream: LaneStream): Turns {
    return stream.standing ? this.urgentTurns : this.turns
  }

  // --- making records ------------------------------------------------------------------------------------------------

  /** Sees to it that records leave at the end of this turn of the event loop. */
  wake(): void {
    if (this.scheduled || this.ended) return
    this.scheduled = true
    this.owner.clock.soon(this.flushSoon)
  }

  private flush(): void {
    if (this.ended) return
    const now = this.now()
    if (this.lane.catchUp(now)) {
      while (this.lane.open && this.sendRecord(now));
      if (this.ackNow) this.sendAckAlone(now)
    }
    this.tellWaiting()
  }

  private sendRecord(now: number): boolean {
    const urgent = !this.urgent.empty || !this.urgentTurns.empty
    const outbox = urgent ? this.urgent : this.ordinary
    const turns = urgent ? this.urgentTurns : this.turns
    if (outbox.empty && turns.empty) return false
    const sealed = urgent || this.owner.policy === 'always'
    const afterAck = this.writeAck(0)
    let at = outbox.take(plain, afterAck)
    // What is still in the outbox goes first: it may be the OPEN or HEAD of a stream that has a turn.
    if (outbox.empty) at = this.fillWithTurns(turns, at)
    // Streams that were stopped meanwhile may leave a record empty.
    if (at > 0) this.lane.send(plain.subarray(0, at), sealed, at === afterAck, now)
    return this.hasWork
  }

  private writeAck(at: number): number {
    const count = this.lane.takeAck()
    if (count === undefined) return at
    this.ackNow = false
    return writeNumbers(plain, at, Frame.ack, count)
  }

  // One round at most in a record: on a slow lane a record then takes no longer than the turns in it.
  private fillWithTurns(turns: Turns, at: number): number {
    const turnBytes = this.lane.turnBytes
    for (let left = turns.count; left > 0; left--) {
      if (plain.length - at < DATA_OVERHEAD_BYTES + DATA_WORTH_BYTES) break
      const stream = turns.next()
      if (!stream.ready) continue
      at = stream.takeTurn(plain, at, plain.length, turnBytes)
      if (stream.ready && !stream.isGone) turns.add(stream)
      if (stream.ownerWaits) this.waiting.push(stream)
    }
    return at
  }

  private sendAckAlone(now: number): void {
    if (!this.lane.attached) return
    const at = this.writeAck(0)
    this.ackNow = false
    if (at > 0) this.lane.send(plain.subarray(0, at), this.owner.policy === 'always', true, now)
  }

  // After the records: an owner that writes at once is served in the next turn, and other streams before it.
  private tellWaiting(): void {
    for (let i = 0; i < this.waiting.length; i++) {
      const stream = this.waiting[i]!
      if (!stream.isGone && stream.hasRoom()) stream.events.onDrain()
    }
    this.waiting.length = 0
  }

  private oweAck(bytes: number): void {
    if (this.lane.owesAck(bytes)) {
      this.ackNow = true
      this.wake()
      return
    }
    if (this.ackTimer) return
    this.ackTimer = true
    this.owner.clock.later(ACK_AFTER_MS, () => {
      this.ackTimer = false
      if (!this.lane.ackOwed || this.ended) return
      this.ackNow = true
      this.flush()
    })
  }

  // --- reading records -----------------------------------------------------------------------------------------------

  /** Acts on a record's payload. Throws a `protocol_error` where it breaks the rules. */
  take(payload: Buffer, sealed: boolean): void {
    const reader = this.reader.set(payload)
    let onlyAcks = true
    while (reader.left > 0) {
      const type = reader.u8()
      const length = reader.varint()
      if (length > reader.left) throw new PosternError(errors.protocol_error, `a frame of ${String(length)} bytes where ${String(reader.left)} are left`)
      const next = reader.at + length
      if (type !== Frame.ack) onlyAcks = false
      this.takeFrame(type, reader, next, sealed)
      if (this.ended) return
      // A frame's contents end where its length said, whatever was read of them.
      reader.set(payload, next)
    }
    if (onlyAcks) return
    if (this.ordinary.count + this.urgent.count > FRAMES_WAITING_MAX_COUNT) throw new PosternError(errors.protocol_error, 'too many answers are asked for and not taken')
    this.oweAck(payload.length)
  }

  private takeFrame(type: number, reader: Reader, end: number, sealed: boolean): void {
    reader.end = end
    switch (type) {
      case Frame.open:
        return this.takeOpen(reader, sealed)
      case Frame.head:
        return this.takeHead(reader, sealed)
      case Frame.data: {
        const stream = this.find(reader.varint(), sealed)
        return stream?.receiveData(ownMemory(reader.rest()))
      }
      case Frame.end: {
        const stream = this.find(reader.varint(), sealed)
        const trailers = reader.left === 0 ? NO_FIELDS : readFields(reader)
        const extension = reader.left === 0 ? NO_FIELDS : readExtension(reader)
        mustEnd(reader)
        return stream?.receiveEnd(trailers, extension)
      }
      case Frame.stop: {
        const stream = this.find(reader.varint(), sealed)
        const code = errorByNumber(reader.varint())
        mustEnd(reader)
        return stream?.receiveStop(code)
      }
      case Frame.reset: {
        const stream = this.find(reader.varint(), sealed)
        const code = errorByNumber(reader.varint())
        const begun = reader.u8() !== 0
        mustEnd(reader)
        return stream?.receiveReset(code, begun)
      }
      case Frame.credit: {
        const stream = this.find(reader.varint(), sealed)
        const upTo = reader.varint()
        mustEnd(reader)
        return stream?.receiveCredit(upTo)
      }
      case Frame.ack: {
        const count = reader.varint()
        mustEnd(reader)
        this.lane.acked(count, this.now())
        if (this.hasWork) this.wake()
        return
      }
      case Frame.settings:
        mustBeSealed(sealed)
        this.owner.peerSettings = readSettings(reader, this.owner.peerSettings)
        return mustEnd(reader)
      case Frame.drain:
        mustBeSealed(sealed)
        reader.varint()
        mustEnd(reader)
        return this.owner.peerDrains()
      case Frame.ping:
        return this.takePing(reader)
      default:
        if ((type & SKIP_BIT) === 0) throw new PosternError(errors.protocol_error, `a frame of unknown type ${String(type)}`)
    }
  }

  private get hasWork(): boolean {
    return !this.urgent.empty || !this.ordinary.empty || !this.turns.empty || !this.urgentTurns.empty
  }

  private takeOpen(reader: Reader, sealed: boolean): void {
    const id = reader.varint()
    if ((id & 1) !== this.owner.peerParity) throw new PosternError(errors.protocol_error, `stream ${String(id)} is not the peer's to open`)
    const kind = reader.u8() as StreamKind
    const last = isStanding(kind) ? this.lastPeerStanding : this.lastPeer
    if (id <= last || this.streams.find(id) !== undefined) throw new PosternError(errors.protocol_error, `stream ${String(id)} after ${String(last)}`)
    if (isStanding(kind)) this.lastPeerStanding = id
    else {
      this.lastPeer = id
      this.cameCount++
    }
    const ended = (reader.u8() & FLAG_END) !== 0
    const credit = reader.varint()
    const uuid = reader.hex(UUID_BYTES)
    const serviceBytes = reader.u8()
    if (serviceBytes > SERVICE_NAME_MAX_BYTES) throw new PosternError(errors.protocol_error, `a service name of ${String(serviceBytes)} bytes`)
    const service = reader.latin1(serviceBytes)
    const fields = readFields(reader)
    const extension = readExtension(reader)
    const opening: Opening = { kind, uuid, service, fields, extension, body: reader.rest(), ended }
    if (isStanding(kind)) mustBeSealed(sealed)
    this.admit(id, opening, credit)
  }

  private admit(id: number, opening: Opening, credit: number): void {
    const refusal = opening.kind > StreamKind.tcp ? errors.refused : this.owner.roomForStream()
    if (refusal !== undefined) {
      const outbox = isStanding(opening.kind) ? this.urgent : this.ordinary
      outbox.add(encodeRefusal(Frame.reset, id, refusal, false))
      this.wake()
      return
    }
    const stream = new LaneStream(this, id, opening.kind, false, credit, this.owner.settings.firstCredit, this.owner.budget)
    this.streams.add(stream)
    stream.receiveOpening(opening)
    const events = this.owner.streamCame(opening, stream)
    if ('onHead' in events) stream.events = events
    else stream.reset(events, false)
  }

  private takeHead(reader: Reader, sealed: boolean): void {
    const stream = this.find(reader.varint(), sealed)
    const ended = (reader.u8() & FLAG_END) !== 0
    const fields = readFields(reader)
    const extension = readExtension(reader)
    stream?.receiveHead(fields, extension, reader.rest(), ended)
  }

  private takePing(reader: Reader): void {
    const answer = reader.u8() !== 0
    const payload = reader.take(PING_BYTES)
    mustEnd(reader)
    if (answer) return
    this.ordinary.add(encodePing(true, payload))
    this.wake()
  }

  private find(id: number, sealed: boolean): LaneStream | undefined {
    const stream = this.streams.find(id)
    if (stream === undefined) {
      const last = (id & 1) === this.owner.peerParity ? Math.max(this.lastPeer, this.lastPeerStanding) : this.lastOwn
      if (id > last) throw new PosternError(errors.protocol_error, `a frame for stream ${String(id)}, which never was`)
      return undefined
    }
    if (stream.standing) mustBeSealed(sealed)
    return stream
  }
}

const EMPTY = Buffer.alloc(0)

// Whoever keeps a chunk keeps the memory it is a view of, a record or a read of the socket: a slow reader's credit would not bound what a peer can make us hold.
function ownMemory(chunk: Buffer): Buffer {
  if (chunk.length * VIEW_SHARE >= chunk.buffer.byteLength) return chunk
  const own = Buffer.allocUnsafeSlow(chunk.length)
  chunk.copy(own)
  return own
}

function mustEnd(reader: Reader): void {
  if (reader.left !== 0) throw new PosternError(errors.protocol_error, `${String(reader.left)} bytes too many in a frame`)
}

function mustBeSealed(sealed: boolean): void {
  if (!sealed) throw new PosternError(errors.protocol_error, 'a frame of a standing stream in a record that is not sealed')
}

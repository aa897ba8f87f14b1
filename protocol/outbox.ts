// Frames that wait for the next record: heads, credit and other small ones, written in order, whole records at a time (SPEC §7).
import { ACK_MAX_BYTES } from './frames.ts'
import { RECORD_PAYLOAD_MAX_BYTES } from './limits.ts'

/** What fits beside an ACK in one record. */
const PIECE_BYTES = RECORD_PAYLOAD_MAX_BYTES - ACK_MAX_BYTES
/** Pieces kept for the next who needs one: as many lanes as are busy in one turn of the event loop. */
const SPARE_PIECES_MAX_COUNT = 32

const spare: Buffer[] = []

interface Piece {
  readonly buffer: Buffer
  used: number
  frames: number
}

/** A queue of frames. An empty one holds no memory. */
export class Outbox {
  private readonly pieces: Piece[] = []
  private last: Piece | undefined
  /** Frames that wait. */
  count = 0

  /** About how many bytes they take. */
  get bytes(): number {
    return this.pieces.length * PIECE_BYTES
  }

  get empty(): boolean {
    return this.last === undefined
  }

  /** Room for a frame of `bytes`: write it to `buffer` from `used` on, then move `used`. */
  room(bytes: number): Piece {
    let piece = this.last
    if (piece === undefined || piece.used + bytes > PIECE_BYTES) {
      piece = { buffer: spare.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES), used: 0, frames: 0 }
      this.pieces.push(piece)
      this.last = piece
    }
    piece.frames++
    this.count++
    return piece
  }

  add(frame: Buffer): void {
    const piece = this.room(frame.length)
    piece.used += frame.copy(piece.buffer, piece.used)
  }

  /** Bytes that the next record takes from here. */
  get nextBytes(): number {
    return this.pieces.length === 0 ? 0 : this.pieces[0]!.used
  }

  /** Moves the frames of the next record to `into` at `at`; returns the place after them. */
  take(into: Buffer, at: number): number {
    const piece = this.pieces.shift()
    if (piece === undefined) return at
    if (piece === this.last) this.last = undefined
    this.count -= piece.frames
    piece.buffer.copy(into, at, 0, piece.used)
    if (spare.length < SPARE_PIECES_MAX_COUNT) spare.push(piece.buffer)
    return at + piece.used
  }

  clear(): void {
    this.pieces.length = 0
    this.last = undefined
    this.count = 0
  }
}

// Bodies too large to keep: made piece by piece from a seed, hashed on both sides.
import { createHash, type Hash } from 'node:crypto'
import { Readable, Writable } from 'node:stream'
import { Random } from '../protocol/simulation.ts'

const PIECE_BYTES = 64 * 1024

/** `bytes` bytes that no compression or repetition hides behind: a random piece, turned a little for each repetition. */
export function* pieces(seed: number, bytes: number): Generator<Buffer> {
  const random = new Random(seed).bytes(PIECE_BYTES)
  for (let at = 0, turn = 0; at < bytes; at += PIECE_BYTES, turn++) {
    const piece = Buffer.from(random)
    piece.writeUInt32BE(turn, 0)
    yield at + PIECE_BYTES <= bytes ? piece : piece.subarray(0, bytes - at)
  }
}

export function body(seed: number, bytes: number): Readable {
  return Readable.from(pieces(seed, bytes), { objectMode: false, highWaterMark: 4 * PIECE_BYTES })
}

export function hashOf(seed: number, bytes: number): string {
  const hash = createHash('sha256')
  for (const piece of pieces(seed, bytes)) hash.update(piece)
  return hash.digest('hex')
}

/** Swallows and hashes. */
export function sink(): { stream: Writable; hash: Hash } {
  const hash = createHash('sha256')
  return { hash, stream: new Writable({ write: (chunk: Buffer, _encoding, done) => (hash.update(chunk), done()) }) }
}

// Memory for records, cut one after the other from larger pieces, so that a record costs no allocation of its own.

const SLAB_BYTES = 512 * 1024

let slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
let used = 0

/** A piece of `bytes`, of which {@link keep} may later give back the unused tail. Not zeroed. */
export function cut(bytes: number): Buffer {
  if (used + bytes > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
    used = 0
  }
  const piece = slab.subarray(used, used + bytes)
  used += bytes
  return piece
}

/** Says that only the first `bytes` of `piece` are needed. What was cut meanwhile keeps its place. */
export function keep(piece: Buffer, bytes: number): void {
  const pieceEnd = piece.byteOffset + piece.length
  if (piece.buffer === slab.buffer && pieceEnd === slab.byteOffset + used) used -= piece.length - bytes
}

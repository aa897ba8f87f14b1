// Memory for records, cut one after the other from larger pieces, so that a record costs no allocation of its own.

/**
 * Used up before V8 has collected young garbage twice: one that is still in use then counts as old, and 16 MB of such garbage make V8 look through its
 * whole heap (at 512 KiB every 1.3 s under load).
 */
const SLAB_BYTES = 64 * 1024

let slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
let used = 0

/** A piece of `bytes`. Not zeroed. */
export function cut(bytes: number): Buffer {
  if (used + bytes > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
    used = 0
  }
  const piece = slab.subarray(used, used + bytes)
  used += bytes
  return piece
}

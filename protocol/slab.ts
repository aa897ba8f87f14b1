// Memory for records, cut one after the other from larger pieces, so that a record costs no allocation of its own.

const SLAB_BYTES = 512 * 1024

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

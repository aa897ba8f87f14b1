// How much goes into one POST: what the way up takes in half a second, so that answers keep coming and nothing urgent waits long behind it.
import { BODY_MAX_BYTES } from '../protocol/http-channel.ts'

/** A message of the largest kind goes alone anyway. */
const LEAST_BYTES = 16 * 1024
const FIRST_BYTES = 64 * 1024
/** A channel over which nothing comes for 2 s counts as stalled (SPEC §5): a POST must be answered well before. */
const LONGEST_MS = 500

export class PostSize {
  bytes = FIRST_BYTES
  /** The shortest that one took: the way there and back, which is no fault of its size. */
  private leastMs = Infinity

  /** A POST of so many bytes was answered after so long. */
  took(bytes: number, ms: number): void {
    this.leastMs = Math.min(this.leastMs, ms)
    const ownMs = ms - this.leastMs
    if (ownMs > LONGEST_MS) this.bytes = Math.max(LEAST_BYTES, Math.floor((bytes * LONGEST_MS) / ownMs))
    else if (bytes >= this.bytes / 2) this.bytes = Math.min(BODY_MAX_BYTES, 2 * this.bytes)
  }
}

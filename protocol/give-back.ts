// Gives the memory of large buffers back at once instead of at the next collection of garbage.

/** Below this, a call costs more than what it saves. */
export const GIVEN_BACK_MIN_BYTES = 16_384
/** What may stand before the bytes in their buffer: the header of a record, which is at most 21 bytes, or mostly an ACK and the beginning of a DATA frame. */
const BEFORE_MAX_BYTES = 24

/**
 * Gives memory back if `bytes` reach to the end of a buffer that holds nothing else but a header before them; nobody may look at them any more.
 * 64 MB of garbage in buffers make V8 look through its whole heap, on other threads too: over a third of an agent's CPU time in a large download.
 * And what comes back at once is still in the processor's cache.
 */
export function giveBack(bytes: Uint8Array): void {
  const { buffer, byteOffset, length } = bytes
  if (length >= GIVEN_BACK_MIN_BYTES && byteOffset <= BEFORE_MAX_BYTES && byteOffset + length === buffer.byteLength) (buffer as ArrayBuffer).transfer(0)
}

// Bytes that come in pieces and are wanted whole: copied together, so that a small piece does not hold the large buffer that it came in.

const FIRST_BYTES = 256

export class Gathering {
  private buffer: Buffer = Buffer.alloc(0)
  bytes = 0

  add(piece: Uint8Array): void {
    const bytes = this.bytes + piece.length
    if (bytes > this.buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, bytes, 2 * this.buffer.length))
      this.buffer.copy(larger, 0, 0, this.bytes)
      this.buffer = larger
    }
    this.buffer.set(piece, this.bytes)
    this.bytes = bytes
  }

  /** All that came; from here on it gathers anew. */
  take(): Buffer {
    const whole = this.buffer.subarray(0, this.bytes)
    this.buffer = Buffer.alloc(0)
    this.bytes = 0
    return whole
  }
}

// Variable-length integers of RFC 9000 §16, held to 2^53-1 (SPEC §1).

/** Bytes that `value` takes in its shortest form. */
export function varintSize(value: number): 1 | 2 | 4 | 8 {
  return value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x4000_0000 ? 4 : 8
}

/** Writes `value` at `at` and returns the place after it. */
export function writeVarint(into: Uint8Array, at: number, value: number): number {
  if (value < 0x40) {
    into[at] = value
    return at + 1
  }
  if (value < 0x4000) {
    into[at] = 0x40 | (value >>> 8)
    into[at + 1] = value & 0xff
    return at + 2
  }
  if (value < 0x4000_0000) {
    into[at] = 0x80 | (value >>> 24)
    into[at + 1] = (value >>> 16) & 0xff
    into[at + 2] = (value >>> 8) & 0xff
    into[at + 3] = value & 0xff
    return at + 4
  }
  const high = Math.floor(value / 0x1_0000_0000)
  into[at] = 0xc0 | (high >>> 24)
  into[at + 1] = (high >>> 16) & 0xff
  into[at + 2] = (high >>> 8) & 0xff
  into[at + 3] = high & 0xff
  into[at + 4] = (value >>> 24) & 0xff
  into[at + 5] = (value >>> 16) & 0xff
  into[at + 6] = (value >>> 8) & 0xff
  into[at + 7] = value & 0xff
  return at + 8
}

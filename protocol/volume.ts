// How much went each way, of a channel since it was made, of a session over all the channels that it ever had; and as both ends show it to people.

/** Bytes of messages, without what a transport puts around them. */
export class Volume {
  sentBytes = 0
  receivedBytes = 0
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** Bytes as a person reads them. */
export function sizeText(bytes: number): string {
  let value = bytes
  let unit = 0
  for (; value >= 1_000 && unit < UNITS.length - 1; unit++) value /= 1_000
  return `${unit === 0 ? String(value) : value.toFixed(1)} ${UNITS[unit]!}`
}

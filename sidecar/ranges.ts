// Ranges of addresses as people write them (CIDR), read into what can be compared as text: the lowest and the highest address in hexadecimal.
import { isIPv4, isIPv6 } from 'node:net'

/** 8 hexadecimal digits each for IPv4, 32 for IPv6. */
export interface Range {
  readonly from: string
  readonly to: string
}

const V4_BITS = 32
const V6_BITS = 128
/** Where IPv4 addresses lie in IPv6: visitors from there count as IPv4. */
const MAPPED = '00000000000000000000ffff'

/** The range, or what is wrong with the text. */
export function readRange(text: string): Range | { readonly reason: string } {
  const slash = text.indexOf('/')
  const hex = addressHex(slash === -1 ? text : text.slice(0, slash))
  if (hex === undefined) return { reason: 'is no address' }
  const width = hex.length * 4
  const bits = slash === -1 ? width : Number(text.slice(slash + 1))
  if (!/^(?:[^/]*|[^/]*\/(?:0|[1-9][0-9]{0,2}))$/.test(text) || bits > width) return { reason: `has no length of 0 to ${String(width)} bits` }
  if (width === V6_BITS && hex.startsWith(MAPPED) && bits >= V6_BITS - V4_BITS) return { reason: 'is an IPv4 range: write it as one' }
  const value = BigInt(`0x${hex}`)
  const rest = (1n << BigInt(width - bits)) - 1n
  if ((value & rest) !== 0n) return { reason: `has bits set beyond its first ${String(bits)}` }
  return { from: hex, to: (value | rest).toString(16).padStart(hex.length, '0') }
}

/** In hexadecimal; undefined if it is no address. What is IPv4 inside IPv6 stays as it is. */
export function addressHex(address: string): string | undefined {
  if (isIPv4(address)) return address.split('.').map((part) => Number(part).toString(16).padStart(2, '0')).join('')
  if (!isIPv6(address) || address.includes('%')) return undefined
  // The last 32 bits may be written as IPv4.
  const dotted = /[0-9.]*$/.exec(address)![0]
  const plain = dotted.includes('.') ? `${address.slice(0, -dotted.length)}${pairs(addressHex(dotted)!)}` : address
  const [before = '', after] = plain.split('::')
  const head = groups(before)
  const tail = after === undefined ? [] : groups(after)
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => '0'), ...tail].map((group) => group.padStart(4, '0')).join('').toLowerCase()
}

const groups = (text: string): string[] => (text === '' ? [] : text.split(':'))
const pairs = (hex: string): string => `${hex.slice(0, 4)}:${hex.slice(4)}`

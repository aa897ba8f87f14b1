// From where somebody comes, as penalties count it: an address of IPv4, a network of IPv6, or what else a peer is called.

/** The upper half of an IPv6 address is the network, within which anybody takes as many addresses as they like (RFC 4291 §2.5.4). */
const NETWORK_GROUPS = 4
const GROUPS = 8

export function sourceOf(peer: string): string {
  if (!peer.includes(':')) return peer
  const [left = '', right] = (peer.split('%')[0] ?? '').split('::')
  const groups = left === '' ? [] : left.split(':')
  const after = right === undefined || right === '' ? [] : right.split(':')
  const all = right === undefined ? groups : [...groups, ...Array<string>(Math.max(0, GROUPS - groups.length - after.length)).fill('0'), ...after]
  return `${all.slice(0, NETWORK_GROUPS).map((group) => group.replace(/^0+(?=.)/, '').toLowerCase()).join(':')}::/64`
}

// The SOCKS5 dialer (RFC 1928, RFC 1929): the proxy resolves the gateway's name, since inside a protected zone nobody else may be able to.
import net from 'node:net'
import { type Heard, MORE, talk } from './proxy-talk.ts'
import { credentialsOf, type Place, ProxyError } from './way.ts'

const VERSION = 5
const Method = { none: 0, password: 2, refused: 0xff } as const
const CONNECT = 1
const AddressType = { ipv4: 1, name: 3, ipv6: 4 } as const

/** RFC 1928 §6. */
const REPLIES: Readonly<Record<number, string>> = {
  1: 'general failure',
  2: 'its rules do not allow it',
  3: 'network unreachable',
  4: 'host unreachable',
  5: 'connection refused',
  6: 'it took too long',
  7: 'it knows no CONNECT',
  8: 'it does not know this type of address',
}

/** Takes a socket to the proxy; calls `done` with it once it leads to `place`. */
export function connectThroughSocks(socket: net.Socket, place: Place, proxy: URL, done: (error: Error | undefined, socket?: net.Socket) => void): void {
  const who = credentialsOf(proxy)
  let step: (bytes: Buffer) => Heard = chosen

  function chosen(bytes: Buffer): Heard {
    if (bytes.length < 2) return MORE
    if (bytes[0] !== VERSION) return new ProxyError(`what answers at ${proxy.host} is no SOCKS5 proxy`)
    if (bytes[1] === Method.none) askToConnect()
    else if (bytes[1] === Method.password && who !== undefined) {
      const [name, password] = [Buffer.from(who.name, 'utf8'), Buffer.from(who.password, 'utf8')]
      if (name.length > 255 || password.length > 255) return new ProxyError('the proxy’s name and password are too long for SOCKS5')
      step = admitted
      socket.write(Buffer.concat([Buffer.of(1, name.length), name, Buffer.of(password.length), password]))
    } else return new ProxyError(`the proxy ${proxy.host} ${who === undefined ? 'wants a name and a password: put them into its URL' : 'takes no name and password'}`)
    return { used: 2, open: false }
  }
  function admitted(bytes: Buffer): Heard {
    if (bytes.length < 2) return MORE
    if (bytes[1] !== 0) return new ProxyError(`the proxy ${proxy.host} does not take this name and password`)
    askToConnect()
    return { used: 2, open: false }
  }
  function connected(bytes: Buffer): Heard {
    if (bytes.length < 5) return MORE
    if (bytes[0] !== VERSION) return new ProxyError(`what answers at ${proxy.host} is no SOCKS5 proxy`)
    if (bytes[1] !== 0) return new ProxyError(`the proxy ${proxy.host} refuses: ${REPLIES[bytes[1]!] ?? `reply ${String(bytes[1])}`}`)
    const bound = bytes[3] === AddressType.ipv4 ? 4 : bytes[3] === AddressType.ipv6 ? 16 : 1 + bytes[4]!
    return bytes.length < 6 + bound ? MORE : { used: 6 + bound, open: true }
  }
  function askToConnect(): void {
    step = connected
    socket.write(Buffer.concat([Buffer.of(VERSION, CONNECT, 0), addressOf(place.host), Buffer.of(place.port >> 8, place.port & 255)]))
  }

  const greeting = who === undefined ? Buffer.of(VERSION, 1, Method.none) : Buffer.of(VERSION, 2, Method.none, Method.password)
  talk(socket, proxy, greeting, (bytes) => step(bytes), done)
}

function addressOf(host: string): Buffer {
  if (net.isIPv4(host)) return Buffer.concat([Buffer.of(AddressType.ipv4), Buffer.from(host.split('.').map(Number))])
  if (net.isIPv6(host)) return Buffer.concat([Buffer.of(AddressType.ipv6), ipv6Bytes(host)])
  const name = Buffer.from(host, 'latin1')
  return Buffer.concat([Buffer.of(AddressType.name, name.length), name])
}

function ipv6Bytes(host: string): Buffer {
  // `::` stands for as many groups of zeros as are missing.
  const [before = '', after] = host.split('::')
  const groups = (part: string | undefined): string[] => (part === undefined || part === '' ? [] : part.split(':'))
  const [left, right] = [groups(before), groups(after)]
  const all = after === undefined ? left : [...left, ...new Array<string>(8 - left.length - right.length).fill('0'), ...right]
  const out = Buffer.alloc(16)
  all.forEach((group, i) => out.writeUInt16BE(Number.parseInt(group, 16), 2 * i))
  return out
}

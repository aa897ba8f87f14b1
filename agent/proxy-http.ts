// The CONNECT dialer: asks an HTTP proxy for a tunnel to the gateway (RFC 9110 §9.3.6), with Basic authentication (RFC 7617).
import type net from 'node:net'
import { type Heard, MORE, talk } from './proxy-talk.ts'
import { credentialsOf, type Place, ProxyError } from './way.ts'

/** A proxy that says more than this before the tunnel is none. */
const ANSWER_MAX_BYTES = 16_384

/** Takes a socket to the proxy; calls `done` with it once it leads to `place`. */
export function connectThroughHttp(socket: net.Socket, place: Place, proxy: URL, done: (error: Error | undefined, socket?: net.Socket) => void): void {
  const authority = `${place.host.includes(':') ? `[${place.host}]` : place.host}:${String(place.port)}`
  const who = proxyAuthorization(proxy)
  const credentials = who === undefined ? '' : `Proxy-Authorization: ${who}\r\n`
  const hear = (bytes: Buffer): Heard => {
    const end = bytes.indexOf('\r\n\r\n')
    if (end < 0) return bytes.length > ANSWER_MAX_BYTES ? new ProxyError(`the proxy ${proxy.host} answers without an end`) : MORE
    const status = /^HTTP\/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?/.exec(bytes.toString('latin1', 0, end))
    if (status === null) return new ProxyError(`what answers at ${proxy.host} is no HTTP proxy`)
    if (!status[1]!.startsWith('2')) return proxyRefusal(proxy, 'refuses the tunnel', status[1]!, status[2] ?? '')
    return { used: end + 4, open: true }
  }
  talk(socket, proxy, `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${credentials}\r\n`, hear, done)
}

/** The value of the field of that name, if the proxy's URL names somebody. */
export function proxyAuthorization(proxy: URL): string | undefined {
  const who = credentialsOf(proxy)
  return who === undefined ? undefined : `Basic ${Buffer.from(`${who.name}:${who.password}`, 'utf8').toString('base64')}`
}

/** The proxy answered with a status that is none of success. `does`: what it does with that. */
export function proxyRefusal(proxy: URL, does: string, status: string, reason: string): ProxyError {
  if (status !== '407') return new ProxyError(`the proxy ${proxy.host} ${does}: ${status} ${reason}`.trim())
  if (credentialsOf(proxy) !== undefined) return new ProxyError(`the proxy ${proxy.host} does not take this name and password (407)`)
  return new ProxyError(`the proxy ${proxy.host} wants a name and a password (407): put them into its URL`)
}

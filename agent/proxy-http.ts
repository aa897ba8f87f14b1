// The CONNECT dialer: asks an HTTP proxy for a tunnel to the gateway (RFC 9110 §9.3.6), with Basic authentication (RFC 7617).
import type net from 'node:net'
import { credentialsOf, type Place, ProxyError } from './way.ts'

/** A proxy that says more than this before the tunnel is none. */
const ANSWER_MAX_BYTES = 16_384

/** Takes a socket to the proxy; calls `done` with it once it leads to `place`. */
export function connectThroughHttp(socket: net.Socket, place: Place, proxy: URL, done: (error: Error | undefined, socket?: net.Socket) => void): void {
  const authority = `${place.host.includes(':') ? `[${place.host}]` : place.host}:${String(place.port)}`
  const who = credentialsOf(proxy)
  const credentials = who === undefined ? '' : `Proxy-Authorization: Basic ${Buffer.from(`${who.name}:${who.password}`, 'utf8').toString('base64')}\r\n`
  let came = Buffer.alloc(0)
  const over = (error: Error | undefined): void => {
    socket.off('data', read)
    socket.off('error', failed)
    socket.off('close', closed)
    if (error !== undefined) socket.destroy()
    done(error, error === undefined ? socket : undefined)
  }
  const failed = (error: Error): void => over(new ProxyError(`the proxy ${proxy.host} broke off: ${error.message}`))
  const closed = (): void => over(new ProxyError(`the proxy ${proxy.host} closed the connection without an answer`))
  const read = (chunk: Buffer): void => {
    came = Buffer.concat([came, chunk])
    const end = came.indexOf('\r\n\r\n')
    if (end < 0) return came.length > ANSWER_MAX_BYTES ? over(new ProxyError(`the proxy ${proxy.host} answers without an end`)) : undefined
    const status = /^HTTP\/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?/.exec(came.toString('latin1', 0, end))
    if (status === null) return over(new ProxyError(`what answers at ${proxy.host} is no HTTP proxy`))
    if (!status[1]!.startsWith('2')) return over(new ProxyError(refusal(proxy, status[1]!, status[2] ?? '', who !== undefined)))
    const rest = came.subarray(end + 4)
    over(undefined)
    if (rest.length > 0) socket.unshift(rest)
  }
  socket.on('data', read)
  socket.once('error', failed)
  socket.once('close', closed)
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${credentials}\r\n`)
}

function refusal(proxy: URL, status: string, reason: string, knows: boolean): string {
  if (status === '407') return knows ? `the proxy ${proxy.host} does not take this name and password (407)` : `the proxy ${proxy.host} wants a name and a password (407): put them into its URL`
  return `the proxy ${proxy.host} refuses the tunnel: ${status} ${reason}`.trim()
}

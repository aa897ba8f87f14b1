// Dials an origin: one socket, plain, TLS or unix, with half-close kept.
import net from 'node:net'
import tls from 'node:tls'
import type { buildConnector } from 'undici'
import { hearLastWords } from './last-words.ts'
import type { Target } from './target.ts'

/** An origin is near: one that has not taken a connection by now is down or filtered. */
const CONNECT_TIMEOUT_MS = 10_000

/**
 * How undici gets its sockets. Its own connector would ask for the certificate of the name in the Host field, which is
 * the public one; the certificate must be the target's.
 */
export function originConnector(target: Target, verifyTls: boolean): buildConnector.connector {
  return (_options, callback) => {
    const socket = dial(target, verifyTls)
    socket.setNoDelay(true)
    hearLastWords(socket)
    const timer = setTimeout(() => socket.destroy(Object.assign(new Error('the origin did not take the connection in time'), { code: 'ETIMEDOUT' })), CONNECT_TIMEOUT_MS)
    const failed = (error: Error): void => {
      clearTimeout(timer)
      callback(error, null)
    }
    socket.once('error', failed)
    socket.once(target.tls ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer)
      socket.off('error', failed)
      socket.on('error', nameReset)
      callback(null, socket)
    })
  }
}

/** Not yet connected, or not yet with TLS. */
export function dial(target: Target, verifyTls: boolean): net.Socket {
  const socket = open(target, verifyTls)
  socket.on('error', sayWhy)
  return socket
}

function open(target: Target, verifyTls: boolean): net.Socket {
  const { hostname: host, port } = target
  if (target.socketPath !== undefined) return net.connect({ path: target.socketPath, allowHalfOpen: true })
  const place = { host, port, ...(host === 'localhost' ? { lookup: loopback } : {}) }
  if (!target.tls) return net.connect({ ...place, allowHalfOpen: true })
  const servername = net.isIP(host) === 0 ? { servername: host } : {}
  // allowHalfOpen is taken by tls.connect though its type does not say so.
  const options: tls.ConnectionOptions & { allowHalfOpen: boolean } = { ...place, ...servername, allowHalfOpen: true, ALPNProtocols: ['http/1.1'], rejectUnauthorized: verifyTls }
  return tls.connect(options)
}

/**
 * Of a name with several addresses, none of which is reached, Node says the first one's code and no word. What counts is the one where somebody said no:
 * the others may be of a family that the machine does not have.
 */
function sayWhy(error: NodeJS.ErrnoException & { errors?: readonly NodeJS.ErrnoException[] }): void {
  const each = error.errors
  if (each === undefined) return
  if (error.message === '') error.message = each.map(({ message }) => message).join(', ')
  if (each.some(({ code }) => code === 'ECONNREFUSED')) error.code = 'ECONNREFUSED'
}

/** Nobody need be asked for that name (RFC 6761 §6.3), and a small system may have nobody who knows it. */
const loopback: net.LookupFunction = (_name, { all }, done) => {
  if (all === true) done(null, [{ address: '::1', family: 6 }, { address: '127.0.0.1', family: 4 }])
  else done(null, '127.0.0.1', 4)
}

/** What a reset is called from here on. */
export const RESET_CODE = 'EORIGINRESET'

/** undici takes an ECONNRESET for the proper end of a body that ends with its connection: a short body would look whole. Listening first, we rename it. */
function nameReset(error: NodeJS.ErrnoException): void {
  if (error.code === 'ECONNRESET') error.code = RESET_CODE
}

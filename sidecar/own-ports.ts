// The gateway's own ports for agents, with TLS and without: for networks where no nginx is before it, or one that passes bytes on (SPEC §2).
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import type { AgentsDoor } from './agents-door.ts'
import type { Certificate } from './certificate.ts'
import { addressOf, SettingsError } from './settings.ts'

/** What may be spoken: the channels over HTTP, and messages as they are. Whoever offers something else alone is told so by TLS. */
const PROTOCOLS = ['h2', 'http/1.1', 'postern']
/** The system asks a silent peer for a sign of life after so long: a channel has signs of its own long before, an idle HTTP connection has not. */
const KEEP_ALIVE_AFTER_MS = 60_000
const SOCKET = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_AFTER_MS } as const

/** Nothing of these is on that machine, or may be had there: it was said wrong. */
const WRONG: ReadonlySet<string> = new Set(['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN'])

/** Where one listens: at HOST:PORT, or on a socket that whoever started the gateway has opened. */
export type PortPlace = string | { readonly fd: number }

/** Resolves when it listens. */
export function listenPlain(place: PortPlace, door: AgentsDoor): Promise<Server> {
  return listening('agents_address', place, createServer(SOCKET, (socket) => door.take(socket)))
}

/** The same with TLS before everything else. */
export function listenTls(place: PortPlace, certificate: Certificate, door: AgentsDoor, handshakeMs: number): Promise<Server> {
  const asks = certificate.current.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true }
  const options: TlsOptions = { ...SOCKET, ...certificate.current, ...asks, minVersion: 'TLSv1.2', ALPNProtocols: PROTOCOLS, handshakeTimeout: handshakeMs }
  const server = createTlsServer(options)
  // The socket below TLS has asked for nothing until TLS stands, and counts as such.
  const handshakes = new Map<string, Socket>()
  server.prependListener('connection', (socket: Socket) => {
    const pem = certificate.renewed()
    if (pem !== undefined) server.setSecureContext(pem)
    const name = nameOf(socket)
    handshakes.set(name, socket)
    socket.once('close', () => handshakes.delete(name))
    door.expect(socket)
  })
  server.on('secureConnection', (socket) => {
    const below = handshakes.get(nameOf(socket))
    if (below !== undefined) door.asked(below)
    door.take(socket)
  })
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  return listening('agents_tls_address', place, server)
}

/** Where it came to listen, for people. */
export function placeOf(server: Server): string {
  const { address, port, family } = server.address() as AddressInfo
  return `${family === 'IPv6' ? `[${address}]` : address}:${String(port)}`
}

/** The two ends of a connection: the same for a socket and for the TLS on it. */
const nameOf = (socket: Socket): string => `${String(socket.remoteAddress)} ${String(socket.remotePort)} ${String(socket.localAddress)}`

function listening(setting: string, place: PortPlace, server: Server): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const detail = `${setting}: ${typeof place === 'string' ? place : 'inherited'}: ${error.code === 'EADDRINUSE' ? 'another process listens there' : error.message}`
      reject(WRONG.has(error.code ?? '') ? new SettingsError(detail) : new Error(detail))
    })
    server.listen(typeof place === 'string' ? addressOf(place) : place, () => {
      // An accept that fails (no descriptors are left) is tried again by Node.
      server.removeAllListeners('error').on('error', () => undefined)
      resolve(server)
    })
  })
}

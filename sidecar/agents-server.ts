// Where agents come in: an HTTP server that turns upgrades on one path into channels and answers everything else with 404 (SPEC §2, §3).
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { admit, type Gatekeeper } from '../protocol/admit.ts'
import type { Carrier } from '../protocol/channel.ts'
import type { Environment } from '../protocol/environment.ts'
import { HANDSHAKE_MESSAGE_MAX_BYTES } from '../protocol/limits.ts'
import { acceptTcp, TCP_PROTOCOL } from './tcp.ts'
import { WebSocketAcceptor } from './websocket.ts'

export const CHANNEL_PATH = '/_postern/channel'

/** Channels that are not yet a session's. A login costs 2 ms, so this many are half a second of work; who comes on top is told to come again. */
const STRANGERS_MAX_COUNT = 256
/** HELLO and PROOF and what a websocket puts around them. Nobody sends more before WELCOME. */
const STRANGER_MAX_BYTES = 2 * HANDSHAKE_MESSAGE_MAX_BYTES + 64
/** Reads that a stranger's bytes may come in: one byte a read is fine for a HELLO and a PROOF of their usual sizes. */
const STRANGER_MAX_READS = 2_048
/** Seconds after which an agent that found the gateway busy should come again. */
const BUSY_RETRY_AFTER_S = 2
/** How long a request head may take: nginx sends it in one piece. */
const HEAD_TIMEOUT_MS = 10_000

/** Not yet listening. A channel goes to `gatekeeper` once its agent has proved itself. */
export function createAgentsServer(gatekeeper: Gatekeeper, environment: Environment): Server {
  const acceptor = new WebSocketAcceptor()
  const strangers = new Set<Carrier>()
  const known: Gatekeeper = {
    serverSetup: gatekeeper.serverSetup,
    recordOf: (agentId) => gatekeeper.recordOf(agentId),
    terms: (hello, record) => gatekeeper.terms(hello, record),
    sessionById: (id) => gatekeeper.sessionById(id),
    onSession: (session, hello, carrier) => {
      strangers.delete(carrier)
      gatekeeper.onSession(session, hello, carrier)
    },
    onChannel: (session, carrier) => {
      strangers.delete(carrier)
      gatekeeper.onChannel(session, carrier)
    },
    // Counted until its socket is gone: a refused one may take its time to close.
    onRefused: (carrier, code, detail) => gatekeeper.onRefused(carrier, code, detail),
  }

  const begin = (carrier: Carrier, socket: Duplex): void => {
    strangers.add(carrier)
    let bytes = 0
    let reads = 0
    const count = (chunk: Buffer): void => {
      bytes += chunk.length
      reads++
      if (!strangers.has(carrier)) socket.off('data', count)
      else if (bytes > STRANGER_MAX_BYTES || reads > STRANGER_MAX_READS) carrier.abort()
    }
    socket.prependListener('data', count)
    socket.once('close', () => strangers.delete(carrier))
    admit(carrier, known, environment)
  }

  const server = createServer({ headersTimeout: HEAD_TIMEOUT_MS, requestTimeout: HEAD_TIMEOUT_MS }, notFound)
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', ignore)
    if (request.url !== CHANNEL_PATH) return refuse(socket, '404 Not Found', '', 'there is nothing here\n')
    if (strangers.size >= STRANGERS_MAX_COUNT) return refuse(socket, '503 Service Unavailable', `Retry-After: ${String(BUSY_RETRY_AFTER_S)}\r\n`, 'gateway_busy\n')
    const then = (carrier: Carrier): void => begin(carrier, socket)
    if (request.headers.upgrade?.toLowerCase() === TCP_PROTOCOL) acceptTcp(request, socket, head, then)
    else acceptor.accept(request, socket, head, then)
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  return server
}

function notFound(request: IncomingMessage, response: ServerResponse): void {
  request.resume()
  response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
  response.end('there is nothing here\n')
}

function refuse(socket: Duplex, status: string, fields: string, body: string): void {
  const answer = `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\n${fields}Content-Length: ${String(body.length)}\r\nConnection: close\r\n\r\n${body}`
  // Whoever keeps sending all the same is not read.
  socket.end(answer, () => socket.destroy())
}

// What a socket broke of is told by its close.
function ignore(): void {}

// A doorway for agents: takes the connections of a listener, tells what each carries, and makes a carrier of those that are a channel's (SPEC §2).
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Carrier } from '../protocol/channel.ts'
import type { Environment } from '../protocol/environment.ts'
import { type Arrival, arrivalOf, type Entrance, silentArrival } from './arrival.ts'
import { tellProtocol } from './first-bytes.ts'
import { acceptHttp2, isChannelRequest, refuseHttp2, serveHttp2 } from './http2.ts'
import type { Strangers } from './strangers.ts'
import { acceptTcp, carryMessages, TCP_PROTOCOL } from './tcp.ts'
import { WebSocketAcceptor } from './websocket.ts'

export const CHANNEL_PATH = '/_postern/channel'

/** Connections that asked for nothing yet. For each that comes on top the oldest goes: one that means it speaks at once. */
const FRESH_MAX_COUNT = 1_024
/** Seconds after which an agent that found the gateway busy should come again. */
export const BUSY_RETRY_AFTER_S = 2
/** The bodies of the http channels come in one piece; this much time is for a slow link. */
const REQUEST_TIMEOUT_MS = 60_000
/** Longer than nginx keeps an idle connection (upstream's keepalive_timeout, 60 s): a request that meets one being closed is lost, and a channel with it. */
const KEEP_ALIVE_MS = 75_000

const NOTHING = 'there is nothing here\n'
const BUSY = 'gateway_busy\n'

/** Takes a request below CHANNEL_PATH/ that is no upgrade; false: it is none of theirs. The http channels (SPEC §14). */
export type TakeRequest = (request: IncomingMessage, response: ServerResponse, arrival: Arrival) => boolean

export interface DoorParts {
  readonly entrance: Entrance
  readonly strangers: Pick<Strangers, 'hasRoomFor' | 'admitOver'>
  readonly environment: Environment
  readonly takeRequest: TakeRequest
}

export class AgentsDoor {
  /** Gets the connections that carry HTTP/1.1; it does not listen itself. */
  readonly http: Server
  private readonly parts: DoorParts
  private readonly acceptor = new WebSocketAcceptor()
  /** Connections that asked for nothing yet, the oldest first; each value takes back the time that it has for it. */
  private readonly fresh = new Map<Duplex, () => void>()

  constructor(parts: DoorParts) {
    this.parts = parts
    const headersTimeout = parts.environment.times.handshakeMs
    this.http = createServer({ headersTimeout, requestTimeout: Math.max(headersTimeout, REQUEST_TIMEOUT_MS), connectionsCheckingInterval: headersTimeout, keepAliveTimeout: KEEP_ALIVE_MS })
    this.http.on('request', (request, response) => this.request(request, response))
    this.http.on('upgrade', (request, socket, head) => this.upgrade(request, socket, head))
    this.http.on('clientError', (_error, socket) => socket.destroy())
    // Its timeouts run from this event on; without them the second head on a kept connection could take for ever.
    this.http.emit('listening')
  }

  /** Something is to come over a connection: it has the time of a handshake for that. */
  expect(socket: Socket): void {
    // What a socket broke of is told by its close.
    socket.on('error', ignore)
    const [oldest] = this.fresh.size >= FRESH_MAX_COUNT ? this.fresh.keys() : []
    oldest?.destroy()
    const { clock, times } = this.parts.environment
    this.fresh.set(socket, clock.later(times.handshakeMs, () => socket.destroy()))
    socket.once('close', () => this.asked(socket))
  }

  /** It came. */
  asked(socket: Duplex): void {
    this.fresh.get(socket)?.()
    this.fresh.delete(socket)
  }

  /** A connection was accepted. */
  take(socket: Socket): void {
    this.expect(socket)
    tellProtocol(socket, (protocol) => {
      if (protocol === 'messages') this.messages(socket)
      else if (protocol === 'http2') this.http2(socket)
      else this.http.emit('connection', socket)
    })
  }

  /** Lets nobody in any more who has not said yet what it wants. */
  close(): void {
    for (const socket of this.fresh.keys()) socket.destroy()
    this.http.close()
  }

  private messages(socket: Socket): void {
    this.asked(socket)
    const { entrance, strangers } = this.parts
    const arrival = silentArrival(entrance, socket)
    // There is no way yet to say anything.
    if (!strangers.hasRoomFor(arrival.peer)) return void socket.destroy()
    strangers.admitOver(socket, carryMessages(entrance === 'port' ? 'tcp' : 'pipe', arrival, socket))
  }

  private http2(socket: Socket): void {
    serveHttp2(socket, (stream, headers) => {
      const { entrance, strangers, environment } = this.parts
      if (!isChannelRequest(headers)) return refuseHttp2(stream, 404, {}, NOTHING)
      const arrival = arrivalOf(entrance, socket, headers)
      if (!strangers.hasRoomFor(arrival.peer)) return refuseHttp2(stream, 503, { 'retry-after': String(BUSY_RETRY_AFTER_S) }, BUSY)
      this.asked(socket)
      strangers.admitOver(stream, acceptHttp2(stream, arrival, environment.clock))
    })
  }

  private request(request: IncomingMessage, response: ServerResponse): void {
    this.asked(request.socket)
    const { entrance, takeRequest } = this.parts
    if (request.url?.startsWith(`${CHANNEL_PATH}/`) === true && takeRequest(request, response, arrivalOf(entrance, request.socket, request.headers))) return
    notFound(request, response)
  }

  private upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.asked(socket)
    const { entrance, strangers } = this.parts
    if (request.url !== CHANNEL_PATH) return refuse(socket, '404 Not Found', '', NOTHING)
    const arrival = arrivalOf(entrance, request.socket, request.headers)
    if (!strangers.hasRoomFor(arrival.peer)) return refuse(socket, '503 Service Unavailable', `Retry-After: ${String(BUSY_RETRY_AFTER_S)}\r\n`, BUSY)
    const then = (carrier: Carrier): void => strangers.admitOver(socket, carrier)
    if (request.headers.upgrade?.toLowerCase() === TCP_PROTOCOL) acceptTcp(socket, head, arrival, then)
    else this.acceptor.accept(request, socket, head, arrival, then)
  }
}

function notFound(request: IncomingMessage, response: ServerResponse): void {
  request.resume()
  response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
  response.end(NOTHING)
}

function refuse(socket: Duplex, status: string, fields: string, body: string): void {
  const answer = `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\n${fields}Content-Length: ${String(body.length)}\r\nConnection: close\r\n\r\n${body}`
  // Whoever keeps sending all the same is not read.
  socket.end(answer, () => socket.destroy())
}

function ignore(): void {}

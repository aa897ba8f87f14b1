// The websocket channel: dials the gateway and carries messages in binary frames (SPEC §2).
import { randomFillSync } from 'node:crypto'
import type { Socket } from 'node:net'
import { WebSocket, type ClientOptions } from 'ws'
import type { Carrier } from '../protocol/channel.ts'
import { MESSAGE_MAX_BYTES, SENT_WHILE_FULL_MAX_COUNT } from '../protocol/limits.ts'
import { Kind, RECORD_NUMBERED, RECORD_SEALED } from '../protocol/messages.ts'
import { channelUrl, type Dial, failureOf, httpFailure, placeOf, SOCKET_QUEUE_MAX_BYTES, UPGRADE_TIMEOUT_MS } from './channel-dial.ts'
import { dial, DIAL_MAX_MS } from './dialer.ts'
import { DIRECT } from './way.ts'

/** A message comes in one frame from our gateway; a proxy may cut it, but hardly finer than this (ws issue 2331: 1-byte fragments). */
const FRAGMENTS_MAX_COUNT = 1_024
const FRAGMENT_CHUNKS_MAX_COUNT = 4_096
/** How long the peer may take to answer our close frame before the socket is cut. */
const CLOSE_TIMEOUT_MS = 5_000
/** ws counts from before the dial. */
const HANDSHAKE_TIMEOUT_MS = DIAL_MAX_MS + UPGRADE_TIMEOUT_MS

export const dialWebsocket: Dial = (options, done) => {
  const url = channelUrl(options.gateway)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  const tls = url.protocol === 'wss:'
  const masks = new Masks(tls)
  const settings: ClientOptions = {
    perMessageDeflate: false,
    followRedirects: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    maxPayload: MESSAGE_MAX_BYTES,
    maxFragments: FRAGMENTS_MAX_COUNT,
    maxBufferedChunks: FRAGMENT_CHUNKS_MAX_COUNT,
    generateMask: (mask) => masks.write(mask),
    headers: { 'User-Agent': options.userAgent },
  }
  let cancelDial = nothing
  const createConnection = (_options: unknown, connected: (error: Error | null, socket?: Socket) => void): void => {
    cancelDial = dial(options.way ?? DIRECT, placeOf(url, options.trust), (error, socket) => connected(error ?? null, socket))
  }
  // Not typed in place: the types of `ws` lack closeTimeout, and know createConnection only as Node's own.
  const socket = new WebSocket(url, { ...settings, closeTimeout: CLOSE_TIMEOUT_MS, createConnection } as unknown as ClientOptions)
  let settled = false
  const settle: typeof done = (outcome) => {
    if (settled) return
    settled = true
    done(outcome)
  }
  socket.on('open', () => settle(new WebsocketCarrier(socket, url.host, masks)))
  socket.on('unexpected-response', (_request, response) => {
    response.resume()
    socket.terminate()
    settle(httpFailure(response.statusCode ?? 0, response.headers.location))
  })
  socket.on('error', (error: NodeJS.ErrnoException) => settle(failureOf(error, url.host)))
  return () => {
    settled = true
    cancelDial()
    socket.terminate()
  }
}

/**
 * Masks exist so that nobody's chosen bytes stand on the wire in plain, where a careless proxy might take them for HTTP
 * (RFC 6455 §10.3). Under TLS no proxy sees them, and a sealed record is as random as a mask would make it: a mask of
 * zeros does there and saves 5 CPU-seconds a GB. The rest (handshake, beats, records in plain) gets a random one.
 */
class Masks {
  private readonly tls: boolean
  private zero = false
  /** Asking for 4 bytes at a time costs some µs each. */
  private readonly pool = Buffer.alloc(8_192)
  private poolAt = this.pool.length

  constructor(tls: boolean) {
    this.tls = tls
  }

  /** Said before each message; ws asks for the mask within its send(). */
  next(message: Buffer): void {
    this.zero = this.tls || (message[0]! & ~RECORD_NUMBERED) === (Kind.record | RECORD_SEALED)
  }

  write(mask: Buffer): void {
    if (this.zero) mask.fill(0)
    else this.random(mask)
    // Frames that ws sends by itself (pong, close) were not announced.
    this.zero = this.tls
  }

  private random(mask: Buffer): void {
    if (this.poolAt === this.pool.length) {
      randomFillSync(this.pool)
      this.poolAt = 0
    }
    this.poolAt += this.pool.copy(mask, 0, this.poolAt, this.poolAt + mask.length)
  }
}

const BINARY = { binary: true, compress: false }

class WebsocketCarrier implements Carrier {
  readonly kind = 'websocket'
  readonly peer: string
  /** An agent does not know the workers of the nginx before its gateway. */
  readonly worker = 0
  onMessage: (message: Buffer) => void = nothing
  onDrain: () => void = nothing
  onClosed: (reason: string) => void = nothing
  private readonly socket: WebSocket
  private readonly masks: Masks
  private full = false
  private sentWhileFull = 0
  private failure = ''

  constructor(socket: WebSocket, peer: string, masks: Masks) {
    this.socket = socket
    this.peer = peer
    this.masks = masks
    socket.binaryType = 'nodebuffer'
    socket.on('message', (data, isBinary) => {
      if (isBinary) this.onMessage(data as Buffer)
      else {
        this.failure = 'the peer sent text'
        socket.terminate()
      }
    })
    socket.on('error', (error) => (this.failure = error.message))
    socket.on('close', (code, reason) => this.onClosed(this.failure !== '' ? this.failure : `closed (${String(code)}${reason.length > 0 ? ` ${reason.toString('utf8')}` : ''})`))
  }

  get queuedBytes(): number {
    return this.socket.bufferedAmount
  }

  send(message: Buffer): boolean {
    if (this.socket.readyState !== WebSocket.OPEN) return true
    this.masks.next(message)
    this.socket.send(message, BINARY, this.left)
    // Once full it is full until onDrain: a small message sent meanwhile takes nothing back, or nobody would ever be told.
    if (this.socket.bufferedAmount > SOCKET_QUEUE_MAX_BYTES) this.full = true
    if (this.full && ++this.sentWhileFull > SENT_WHILE_FULL_MAX_COUNT) this.abort()
    return !this.full
  }

  close(): void {
    this.socket.close(1000)
  }

  abort(): void {
    this.socket.terminate()
  }

  /** A message has left the process. */
  private readonly left = (): void => {
    if (!this.full || this.socket.bufferedAmount > SOCKET_QUEUE_MAX_BYTES / 2) return
    this.full = false
    this.sentWhileFull = 0
    this.onDrain()
  }
}

const nothing = (): void => undefined

// The websocket channel: dials the gateway and carries messages in binary frames (SPEC §2).
import { randomFillSync } from 'node:crypto'
import type { Socket } from 'node:net'
import { WebSocket, type ClientOptions } from 'ws'
import type { Carrier } from '../protocol/channel.ts'
import { MESSAGE_MAX_BYTES } from '../protocol/limits.ts'
import { dial } from './dialer.ts'
import { DIRECT, ProxyError, type Way } from './way.ts'
import { Kind, RECORD_NUMBERED, RECORD_SEALED } from '../protocol/messages.ts'

/**
 * Why there is no channel. `unreachable`: nobody there, or a gateway that is away; `proxy`: the proxy on the way says no; `tls`: somebody else's
 * certificate; `http`: somebody there who is no gateway.
 */
export interface DialFailure {
  readonly reason: 'unreachable' | 'proxy' | 'tls' | 'http'
  readonly detail: string
}

export interface DialOptions {
  /** The gateway's base URL, as the join string has it. */
  readonly gateway: string
  /** How the socket is had: directly, if it is not said. */
  readonly way?: Way
  readonly userAgent: string
}

/** Time for the upgrade once the socket is there. */
const UPGRADE_TIMEOUT_MS = 10_000
/** Above this, what the socket has not taken yet makes the session wait: it can still choose what goes first. */
const SOCKET_QUEUE_MAX_BYTES = 256 * 1024
/** A message comes in one frame from our gateway; a proxy may cut it, but hardly finer than this (ws issue 2331: 1-byte fragments). */
const FRAGMENTS_MAX_COUNT = 1_024
const FRAGMENT_CHUNKS_MAX_COUNT = 4_096
/** How long the peer may take to answer our close frame before the socket is cut. */
const CLOSE_TIMEOUT_MS = 5_000
/** The gateway is away, says the nginx before it. */
const AWAY_STATUSES: ReadonlySet<number> = new Set([502, 503, 504])

const TLS_FAILURE = /^(CERT_|CRL_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|INVALID_CA|HOSTNAME_MISMATCH|EPROTO$)/

/** Where the channel's endpoint is under a gateway's URL. */
export function channelUrl(gateway: string): URL {
  const url = new URL(gateway)
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/_postern/channel`
  url.search = ''
  url.hash = ''
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  return url
}

/** Dials. `done` is called once; the function returned gives up, and `done` is not called then. Redirects are not followed: the join string names the gateway. */
export function dialWebsocket(options: DialOptions, done: (outcome: Carrier | DialFailure) => void): () => void {
  const url = channelUrl(options.gateway)
  const tls = url.protocol === 'wss:'
  const masks = new Masks(tls)
  const settings: ClientOptions = {
    perMessageDeflate: false,
    followRedirects: false,
    handshakeTimeout: UPGRADE_TIMEOUT_MS,
    maxPayload: MESSAGE_MAX_BYTES,
    maxFragments: FRAGMENTS_MAX_COUNT,
    maxBufferedChunks: FRAGMENT_CHUNKS_MAX_COUNT,
    generateMask: (mask) => masks.write(mask),
    headers: { 'User-Agent': options.userAgent },
  }
  const place = { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? (tls ? 443 : 80) : Number(url.port), tls }
  let cancelDial = nothing
  const createConnection = (_options: unknown, connected: (error: Error | null, socket?: Socket) => void): void => {
    cancelDial = dial(options.way ?? DIRECT, place, (error, socket) => connected(error ?? null, socket))
  }
  // Not typed in place: the types of `ws` lack closeTimeout, and know createConnection only as Node's own.
  const socket = new WebSocket(url, { ...settings, closeTimeout: CLOSE_TIMEOUT_MS, createConnection } as unknown as ClientOptions)
  let settled = false
  const settle = (outcome: Carrier | DialFailure): void => {
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
  socket.on('error', (error: NodeJS.ErrnoException) => settle({ reason: reasonOf(error), detail: describe(error, url.host) }))
  return () => {
    settled = true
    cancelDial()
    socket.terminate()
  }
}

function reasonOf(error: NodeJS.ErrnoException): DialFailure['reason'] {
  if (error instanceof ProxyError) return 'proxy'
  return TLS_FAILURE.test(error.code ?? '') ? 'tls' : 'unreachable'
}

function describe(error: NodeJS.ErrnoException, host: string): string {
  // Node puts what happened to each address into `errors` and says nothing itself.
  const parts = error instanceof AggregateError ? error.errors.map((one: unknown) => (one instanceof Error ? one.message : String(one))) : [error.message]
  return `${host}: ${parts.join(', ')}`
}

function httpFailure(status: number, location: string | undefined): DialFailure {
  if (AWAY_STATUSES.has(status)) return { reason: 'unreachable', detail: `the gateway is away (HTTP ${String(status)})` }
  if (status >= 300 && status < 400) return { reason: 'http', detail: `redirected to ${location ?? 'nowhere'}; redirects are not followed` }
  return { reason: 'http', detail: `no gateway answers there (HTTP ${String(status)})` }
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

  send(message: Buffer): boolean {
    if (this.socket.readyState !== WebSocket.OPEN) return true
    this.masks.next(message)
    this.socket.send(message, BINARY, this.left)
    // Once full it is full until onDrain: a small message sent meanwhile takes nothing back, or nobody would ever be told.
    if (this.socket.bufferedAmount > SOCKET_QUEUE_MAX_BYTES) this.full = true
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
    this.onDrain()
  }
}

const nothing = (): void => undefined

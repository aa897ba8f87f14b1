// A carrier over a WebSocket that an agent opened: binary messages, no compression, nothing of it without a bound (SPEC §2).
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Carrier } from '../protocol/channel.ts'
import { MESSAGE_MAX_BYTES, SENT_WHILE_FULL_MAX_COUNT } from '../protocol/limits.ts'
import type { Arrival } from './arrival.ts'

/** Bytes in the socket beyond which the lanes keep their records: enough to keep nginx busy for a turn, little for an urgent frame to wait behind. */
const SOCKET_QUEUE_BYTES = 256 * 1024
/** A message is one frame where we made it; intermediaries may cut it (RFC 6455 §5.4), though none is known to cut it smaller than 4 KiB. */
const FRAGMENTS_MAX_COUNT = 32
/** Reads that a frame may come in. Each costs some 250 bytes beside its own; a link that brings less than 5 bytes a read carries no tunnel. */
const FRAME_READS_MAX_COUNT = 16_384
/** How long the closing handshake may take before the socket is destroyed. */
const CLOSE_TIMEOUT_MS = 5_000

const BINARY = { binary: true, compress: false, fin: true } as const
const Status = { normal: 1000, unsupported: 1003 } as const

// Not typed in place: the types of `ws` lack closeTimeout (ws 8.23, lib/websocket-server.js).
const LIMITS = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  skipUTF8Validation: true,
  maxPayload: MESSAGE_MAX_BYTES,
  maxFragments: FRAGMENTS_MAX_COUNT,
  maxBufferedChunks: FRAME_READS_MAX_COUNT,
  closeTimeout: CLOSE_TIMEOUT_MS,
} as const

export class WebSocketCarrier implements Carrier {
  readonly kind = 'websocket'
  readonly peer: string
  readonly worker: number
  onMessage: (message: Buffer) => void = nobody
  onDrain: () => void = nobody
  onClosed: (reason: string) => void = nobody
  private readonly socket: Duplex
  private readonly ws: WebSocket
  private waits = false
  private sentWhileFull = 0
  /** We said that we close: what still comes is dropped. */
  private closing = false
  private closed = false

  constructor(ws: WebSocket, socket: Duplex, peer: string, worker: number) {
    this.ws = ws
    this.socket = socket
    this.peer = peer
    this.worker = worker
    ws.on('message', (data, binary) => this.take(data as Buffer, binary))
    // Whatever broke, `ws` says so to the peer and closes within CLOSE_TIMEOUT_MS; the session need not wait for it.
    ws.on('error', (error) => this.gone(error.message))
    ws.on('close', (code, reason) => this.gone(closeReason(code, reason)))
    socket.on('drain', () => this.drained())
  }

  get queuedBytes(): number {
    return this.socket.writableLength
  }

  send(message: Buffer): boolean {
    if (this.closing || this.closed) return true
    this.ws.send(message, BINARY)
    // Once full it is full until onDrain: a small message sent meanwhile takes nothing back, or nobody would ever be told.
    if (this.socket.writableLength >= SOCKET_QUEUE_BYTES) this.waits = true
    if (this.waits && ++this.sentWhileFull > SENT_WHILE_FULL_MAX_COUNT) this.abort()
    return !this.waits
  }

  close(): void {
    this.shut(Status.normal)
  }

  abort(): void {
    this.closing = true
    this.ws.terminate()
  }

  private shut(status: number): void {
    if (this.closing) return
    this.closing = true
    this.ws.close(status)
  }

  private take(message: Buffer, binary: boolean): void {
    if (this.closing || this.closed) return
    if (binary && message.length > 0) return this.onMessage(message)
    this.shut(Status.unsupported)
    this.gone(binary ? 'an empty message' : 'a text message')
  }

  private drained(): void {
    this.sentWhileFull = 0
    if (!this.waits) return
    this.waits = false
    if (!this.closing && !this.closed) this.onDrain()
  }

  private gone(reason: string): void {
    if (this.closed) return
    this.closed = true
    this.onClosed(reason)
  }
}

/** Makes carriers of upgrade requests; a request that is no WebSocket's gets its answer here. */
export class WebSocketAcceptor {
  private readonly server = new WebSocketServer(LIMITS)

  accept(request: IncomingMessage, socket: Duplex, head: Buffer, { peer, worker }: Arrival, then: (carrier: WebSocketCarrier) => void): void {
    this.server.handleUpgrade(request, socket, head, (ws) => {
      then(new WebSocketCarrier(ws, socket, peer, worker))
    })
  }
}

const closeReason = (code: number, reason: Buffer): string => {
  const words = reason.toString('latin1').replaceAll(/[^ -~]/g, '?')
  return `the websocket closed (${String(code)}${words === '' ? '' : ` ${words}`})`
}

function nobody(): void {}

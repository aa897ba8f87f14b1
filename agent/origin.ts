// An origin: the local HTTP server behind a service, its kept connections, and how many exchanges it is given at once.
import { Pool } from 'undici'
import type { HealthCheck } from '../protocol/control.ts'
import { type ErrorCode, errors, PosternError } from '../protocol/errors.ts'
import { HEAD_MAX_BYTES } from '../protocol/limits.ts'
import type { Opening, Stream, StreamEvents } from '../protocol/stream.ts'
import type { Checked } from './health.ts'
import { KeptConnections } from './kept-connections.ts'
import { OriginExchange } from './origin-exchange.ts'
import { originRequest } from './origin-fields.ts'
import { originConnector } from './origin-socket.ts'
import { PlainExchange } from './plain-exchange.ts'
import type { Target } from './target.ts'

/** Connections to one origin for uploads and upgrades, beside as many for plain exchanges (kept-connections.ts): a websocket keeps one for itself. */
const ORIGIN_CONNECTIONS_MAX_COUNT = 1_024
/** Exchanges at once; further ones are refused, for another agent to take. Of one kind alone, those without a connection wait for one. */
const ORIGIN_EXCHANGES_MAX_COUNT = 2_048
/** Idle connections are closed by us before the origin does: node:http closes after 5 s, and a request on a connection that is being closed is lost. */
const ORIGIN_KEEP_ALIVE_MS = 4_000

export interface OriginOptions {
  readonly target: Target
  /** What the origin is to see as Host, instead of what the visitor asked for. */
  readonly hostHeader?: string | undefined
  /** False: any certificate of the origin will do. */
  readonly verifyTls?: boolean | undefined
  /** How to find out whether it is well, whatever the gateway says; `none`: not at all. */
  readonly health?: HealthCheck | 'none' | undefined
  /** Told of every exchange that failed for the origin's sake. For people: holds nothing of the exchange. */
  readonly onTrouble?: ((code: ErrorCode, detail: string) => void) | undefined
}

export class Origin {
  readonly target: Target
  /** Exchanges that it was given and that are not over. */
  active = 0
  /** Exchanges that are over, and what of these failed for the origin's sake. */
  served = 0
  failed = 0
  private readonly pool: Pool
  private readonly connections: KeptConnections
  private readonly options: OriginOptions

  constructor(options: OriginOptions) {
    this.options = options
    this.target = options.target
    const connect = originConnector(options.target, options.verifyTls ?? true)
    this.connections = new KeptConnections(connect, ORIGIN_KEEP_ALIVE_MS)
    this.pool = new Pool(options.target.origin, {
      connections: ORIGIN_CONNECTIONS_MAX_COUNT,
      pipelining: 1,
      allowH2: false,
      bodyTimeout: 0,
      headersTimeout: 0,
      keepAliveTimeout: ORIGIN_KEEP_ALIVE_MS,
      maxHeaderSize: HEAD_MAX_BYTES,
      connect,
    })
  }

  get ownCheck(): HealthCheck | 'none' | undefined {
    return this.options.health
  }

  get checked(): Checked {
    const { target, hostHeader, verifyTls = true } = this.options
    return { target, verifyTls, host: hostHeader ?? new URL(target.origin).host }
  }

  /** Carries an exchange. Returns what its stream is to tell, or why it was not begun. */
  take(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    if (this.active >= ORIGIN_EXCHANGES_MAX_COUNT) return errors.refused
    try {
      const request = originRequest(opening.fields, this.options.hostHeader)
      const plain = opening.ended && request.upgrade === undefined && this.connections.hasRoom
      return plain ? new PlainExchange(this, this.connections, request, opening, stream) : new OriginExchange(this, this.pool, request, opening, stream)
    } catch (error) {
      if (error instanceof PosternError) return error.code
      throw error
    }
  }

  /** Told by an exchange, once: it is over and holds no connection. */
  over(): void {
    this.active--
    this.served++
  }

  /** Told by an exchange that it failed. */
  trouble(code: ErrorCode, detail: string): void {
    if (code.fault !== 'origin') return
    this.failed++
    this.options.onTrouble?.(code, detail)
  }

  /** Breaks what is still under way. */
  async close(): Promise<void> {
    this.connections.close()
    await this.pool.destroy()
  }
}

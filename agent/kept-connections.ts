// The connections to an origin that plain exchanges use, one at a time each, and keep for the next.
import type net from 'node:net'
import type { buildConnector } from 'undici'

/** As many as undici may have beside them. */
const CONNECTIONS_MAX_COUNT = 1_024
const SWEEP_MS = 1_000

/** Who uses a connection at the moment. */
export interface ConnectionUser {
  connectionData(chunk: Buffer): void
  /** It ended, or broke with `error`. Called once. */
  connectionGone(error: Error | undefined): void
}

export class Connection {
  readonly socket: net.Socket
  user: ConnectionUser | undefined
  /** It carried a request before: the origin may be closing it just now. */
  used = false
  idleSince = 0
  private readonly onGone: (connection: Connection) => void
  private error: Error | undefined
  private gone = false
  private paused = false
  /** What was read meanwhile: one chunk, or what TLS had deciphered of one; the end of it all is null. */
  private readonly held: (Buffer | null)[] = []
  private readonly end: () => boolean

  constructor(socket: net.Socket, onGone: (connection: Connection) => void) {
    this.socket = socket
    this.onGone = onGone
    // What Node reads comes here at once, past the queue of its stream. False stops the reading.
    const { push } = socket
    this.end = () => push.call(socket, null)
    socket.push = (chunk: Buffer | null) => {
      if (this.paused && (chunk !== null || this.held.length > 0)) {
        this.held.push(chunk)
        return false
      }
      return this.take(chunk)
    }
    socket.on('error', (error) => (this.error ??= error))
    socket.on('end', () => this.leave())
    socket.on('close', () => this.leave())
  }

  get usable(): boolean {
    return !this.gone && this.socket.writable
  }

  private take(chunk: Buffer | null): boolean {
    if (chunk === null) return this.end()
    if (this.user !== undefined) this.user.connectionData(chunk)
    else this.destroy()
    return true
  }

  /** Nothing comes until {@link resume}; a chunk is read in advance. */
  pause(): void {
    this.paused = true
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    while (this.held.length > 0 && !this.paused) {
      const chunk = this.held.shift()!
      this.take(chunk)
      // Without this nobody would hear of the end.
      if (chunk === null) return void this.socket.read(0)
    }
    // Begins to read again, if that was stopped.
    if (this.held.length === 0 && !this.gone) this.socket._read(0)
  }

  destroy(): void {
    this.socket.destroy()
    this.leave()
  }

  private leave(): void {
    if (this.gone) return
    this.gone = true
    this.held.length = 0
    const user = this.user
    this.user = undefined
    this.onGone(this)
    user?.connectionGone(this.error)
    this.socket.destroy()
  }
}

export class KeptConnections {
  private readonly connector: buildConnector.connector
  private readonly keepMs: number
  private readonly idle: Connection[] = []
  private readonly all = new Set<Connection>()
  private connecting = 0
  private closed = false
  private sweep: NodeJS.Timeout | undefined

  constructor(connector: buildConnector.connector, keepMs: number) {
    this.connector = connector
    this.keepMs = keepMs
  }

  get hasRoom(): boolean {
    return this.idle.length > 0 || this.all.size + this.connecting < CONNECTIONS_MAX_COUNT
  }

  /** One that is idle, the last used first: those that nobody needs any more are let go. */
  takeIdle(): Connection | undefined {
    for (;;) {
      const connection = this.idle.pop()
      if (connection === undefined || connection.usable) return connection
    }
  }

  connect(done: (error: Error | undefined, connection?: Connection) => void): void {
    this.connecting++
    this.connector({ hostname: '', protocol: '', port: '' }, (error, socket) => {
      this.connecting--
      if (socket === null) return done(error)
      const connection = new Connection(socket, (gone) => this.all.delete(gone))
      this.all.add(connection)
      if (this.closed) connection.destroy()
      done(undefined, connection)
    })
  }

  /** Takes a connection back that may carry another request. */
  release(connection: Connection): void {
    connection.user = undefined
    if (this.closed || !connection.usable || connection.socket.writableLength > 0) return connection.destroy()
    connection.used = true
    connection.idleSince = performance.now()
    connection.resume()
    this.idle.push(connection)
    this.sweep ??= setInterval(() => this.letGo(), SWEEP_MS).unref()
  }

  close(): void {
    this.closed = true
    clearInterval(this.sweep)
    for (const connection of [...this.all]) connection.destroy()
  }

  // The oldest lie at the front.
  private letGo(): void {
    const before = performance.now() - this.keepMs
    while (this.idle.length > 0 && (this.idle[0]!.idleSince < before || !this.idle[0]!.usable)) this.idle.shift()!.destroy()
    if (this.idle.length > 0) return
    clearInterval(this.sweep)
    this.sweep = undefined
  }
}

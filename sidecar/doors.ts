// The servers that nginx brings requests to, and how they are left: on while something old is under way, then shut, and no request is lost on the way.
import type { Http2Server } from 'node:http2'
import { Server, type Socket } from 'node:net'

/** When nothing moved for so long, nginx is not just writing to a connection that it kept. */
const QUIET_MS = 250
/** What was taken just before the time was over may be answered within this. */
const LAST_ANSWERS_MS = 2_000

export interface Leaving {
  /** Resolves when nothing is under way. */
  idle(): Promise<void>
  /** What is under way may take so long. */
  readonly drainMs: number
  /** Resolves after so many milliseconds. */
  later(ms: number): Promise<void>
}

export class Doors {
  private readonly servers: readonly (Server | Http2Server)[]
  private readonly sockets = new Set<Socket>()
  /** Connections that came, and bytes read from those that went: with what the others read, it changes when anything comes. */
  private came = 0

  constructor(servers: readonly (Server | Http2Server)[]) {
    this.servers = servers
    for (const server of servers) {
      server.on('connection', (socket: Socket) => {
        this.came++
        this.sockets.add(socket)
        socket.once('close', () => {
          this.came += socket.bytesRead
          this.sockets.delete(socket)
        })
      })
    }
  }

  /**
   * To be called once each answer closes its connection. Requests are taken until the connections there are now have closed, or nothing moves any more, or
   * `drainMs` is over: nobody waits for a stranger's download. Those that come later find no listener, or wait in the inherited socket. Resolves when
   * what was taken is answered, as far as the time goes.
   */
  async leave(leaving: Leaving): Promise<void> {
    const { drainMs, later } = leaving
    const drained = later(drainMs)
    await this.over(drained, leaving)
    // Only the listeners: node:http2 would close sessions too on which nginx is just sending its first request.
    for (const server of this.servers) Server.prototype.close.call(server)
    await this.over(drained.then(() => later(LAST_ANSWERS_MS)), leaving)
  }

  private async over(tooLate: Promise<void>, leaving: Leaving): Promise<void> {
    const watch = { ended: false }
    await Promise.race([this.closed(), this.quiet(leaving, watch), tooLate])
    watch.ended = true
  }

  /** Resolves when every connection that is open now has closed: under load nginx soon uses each that it kept, and each answer closes one. */
  private closed(): Promise<void> {
    const old = new Set(this.sockets)
    if (old.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      for (const socket of old) {
        socket.once('close', () => {
          old.delete(socket)
          if (old.size === 0) resolve()
        })
      }
    })
  }

  /** Resolves when nothing is under way, nothing comes and nothing is still to be sent. */
  private async quiet({ idle, later }: Leaving, watch: { readonly ended: boolean }): Promise<void> {
    while (!watch.ended) {
      await idle()
      const before = this.traffic
      await later(QUIET_MS)
      if (before === this.traffic && ![...this.sockets].some((socket) => socket.writableLength > 0)) return
    }
  }

  private get traffic(): number {
    let sum = this.came
    for (const socket of this.sockets) sum += socket.bytesRead
    return sum
  }
}

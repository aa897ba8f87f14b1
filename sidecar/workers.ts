// The nginx workers that requests and channels come through: a channel on an old one is asked to move, so that nginx's reload ends in seconds.
import type { Carrier } from '../protocol/channel.ts'
import type { Clock } from '../protocol/clock.ts'
import { errors } from '../protocol/errors.ts'
import type { Session } from '../protocol/session.ts'

/** A worker without a request for so long, while a newer one has them, is on its way out. */
const QUIET_MS = 5_000
/** How often that is looked into; requests drive it, no timer does. */
const LOOK_MS = 1_000
/** Workers remembered; nginx has as many as there are cores, and as many again while it reloads. */
const WORKERS_MAX_COUNT = 1_024

interface Worker {
  readonly firstAt: number
  lastAt: number
}

export class Workers {
  private readonly clock: Clock
  private readonly sessions: () => Iterable<Session>
  private readonly workers = new Map<number, Worker>()
  /** When each channel came; undefined once it was asked to move. */
  private readonly cameAt = new WeakMap<Carrier, number>()
  private lookedAt: number

  constructor(clock: Clock, sessions: () => Iterable<Session>) {
    this.clock = clock
    this.sessions = sessions
    this.lookedAt = clock.now()
  }

  channelCame(carrier: Carrier): void {
    if (carrier.worker !== 0) this.cameAt.set(carrier, this.clock.now())
  }

  /** A request came through `worker`, 0 if that is unknown. */
  requestCame(worker: number): void {
    if (worker === 0) return
    const now = this.clock.now()
    const known = this.workers.get(worker)
    if (known !== undefined) known.lastAt = now
    else if (this.workers.size < WORKERS_MAX_COUNT) this.workers.set(worker, { firstAt: now, lastAt: now })
    if (now - this.lookedAt >= LOOK_MS) this.look(now)
  }

  private look(now: number): void {
    this.lookedAt = now
    // The one that came last of those at work: it is at work now, for a request brought us here.
    let newestAt = -Infinity
    for (const [pid, { firstAt, lastAt }] of this.workers) {
      if (now - lastAt >= QUIET_MS) this.workers.delete(pid)
      else newestAt = Math.max(newestAt, firstAt)
    }
    // It gets its time too: two workers may share the requests, one at a time.
    if (now - newestAt < QUIET_MS) return
    for (const session of this.sessions()) for (const carrier of session.carriers) this.consider(session, carrier, newestAt)
  }

  // Only a worker that is newer than the channel is a sign of a reload; so no channel is sent to and fro between two that are there to stay.
  private consider(session: Session, carrier: Carrier, newestAt: number): void {
    const cameAt = this.cameAt.get(carrier)
    if (cameAt === undefined || cameAt > newestAt || this.workers.has(carrier.worker)) return
    this.cameAt.delete(carrier)
    session.askToMove(carrier, errors.gateway_leaving)
  }
}

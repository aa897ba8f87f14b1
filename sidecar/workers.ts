// The nginx workers that requests and channels come through: a channel on an old one is asked to move, so that nginx's reload ends in seconds.
import type { Carrier } from '../protocol/channel.ts'
import type { Clock } from '../protocol/clock.ts'
import { errors } from '../protocol/errors.ts'
import type { Session } from '../protocol/session.ts'

/** A worker without a request for so long, while a newer one has them, is on its way out. */
const QUIET_MS = 5_000
/** How often that is looked into; requests drive it, no timer does. */
const LOOK_MS = 1_000
/** Workers remembered, those that are gone too: one that was quiet for a while is not new when it has requests again. */
const WORKERS_MAX_COUNT = 256

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
    else this.remember(worker, now)
    if (now - this.lookedAt >= LOOK_MS) this.look(now)
  }

  private remember(worker: number, now: number): void {
    if (this.workers.size >= WORKERS_MAX_COUNT) {
      // A Map keeps the order in which its entries came: the oldest is the likeliest to be gone.
      const [oldest] = this.workers.keys()
      this.workers.delete(oldest!)
    }
    this.workers.set(worker, { firstAt: now, lastAt: now })
  }

  private look(now: number): void {
    this.lookedAt = now
    let newestAt = -Infinity
    for (const worker of this.workers.values()) if (now - worker.lastAt < QUIET_MS) newestAt = Math.max(newestAt, worker.firstAt)
    // It gets its time too: two workers may share the requests, one at a time.
    if (now - newestAt < QUIET_MS) return
    for (const session of this.sessions()) for (const carrier of session.carriers) this.consider(session, carrier, newestAt, now)
  }

  // Only a worker that is newer than the channel is a sign of a reload; so no channel is sent to and fro between two that are there to stay.
  private consider(session: Session, carrier: Carrier, newestAt: number, now: number): void {
    const cameAt = this.cameAt.get(carrier)
    const ownRequestAt = this.workers.get(carrier.worker)?.lastAt ?? -Infinity
    if (cameAt === undefined || cameAt > newestAt || now - ownRequestAt < QUIET_MS) return
    this.cameAt.delete(carrier)
    session.askToMove(carrier, errors.gateway_leaving)
  }
}

// Whose the hosts are that nginx needs no line for: it sends their requests without a service, and here is which one they are for.
import type { Clock } from '../protocol/clock.ts'

/** Longer than a request takes from nginx's look at a route to our reading of its head. */
const BETWEEN_MS = 5_000

interface PlainRoute {
  readonly host: string
  readonly service: string
  /** Monotonic ms; undefined while the file is plain. */
  endedAt: number | undefined
}

/**
 * A route is plain if its line says `1 up h1 SERVICE -` and stands under the exact host. What nginx sees on the disk holds: a host is here from before its
 * plain file is there until a while after it is not, for what was asked by that file goes where it led, or to the service whose plain file it is now.
 */
export class PlainRoutes {
  private readonly clock: Clock
  private readonly routes = new Map<string, PlainRoute>()
  /** Those whose file is not plain any more, the first that ended first. */
  private ending: PlainRoute[] = []
  private sweeps = false

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** The service of a host, a port behind it or none; undefined if its route was not plain lately. */
  serviceOf(authority: string): string | undefined {
    const colon = authority.indexOf(':')
    return this.routes.get(colon === -1 ? authority : authority.slice(0, colon))?.service
  }

  /** The file of this host is plain, for this service. */
  set(host: string, service: string): void {
    this.routes.set(host, { host, service, endedAt: undefined })
  }

  /** It is not, or not any more. */
  end(host: string): void {
    const route = this.routes.get(host)
    if (route === undefined || route.endedAt !== undefined) return
    route.endedAt = this.clock.now()
    this.ending.push(route)
    this.sweepLater()
  }

  private sweepLater(): void {
    if (this.sweeps || this.ending.length === 0) return
    this.sweeps = true
    this.clock.later(BETWEEN_MS, () => {
      this.sweeps = false
      const latest = this.clock.now() - BETWEEN_MS
      for (const route of this.ending) if (route.endedAt! <= latest && this.routes.get(route.host) === route) this.routes.delete(route.host)
      this.ending = this.ending.filter(({ endedAt }) => endedAt! > latest)
      this.sweepLater()
    })
  }
}

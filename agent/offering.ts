// What an agent has to serve: names and their origins, held against what its gateway lets it serve, and against what it permits itself.
import type { Clock } from '../protocol/clock.ts'
import type { HealthCheck, RefusedPush, ServedService } from '../protocol/control.ts'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Opening, Stream, StreamEvents } from '../protocol/stream.ts'
import { Health } from './health.ts'
import { Origin, type OriginOptions } from './origin.ts'
import { parseTarget } from './target.ts'

/** One target for every service of the agent, or a target a service, and targets that the gateway may suggest for others. */
export type Services =
  | { readonly every: OriginOptions; readonly names?: readonly string[] }
  | { readonly each: ReadonlyMap<string, OriginOptions>; readonly permitted?: readonly OriginOptions[] }

export interface Served {
  readonly name: string
  readonly hosts: readonly string[]
  readonly target: string
}

/** A service that the gateway lets this agent serve. */
export interface Offer {
  readonly name: string
  readonly hosts: readonly string[]
  /** Null if it has none. */
  readonly target: string | null
  readonly serves: boolean
  /** Why it is not served, or not well. */
  readonly reason: string | null
}

/** A service whose origin is not well. */
export interface Unwell {
  readonly name: string
  readonly target: string
  readonly reason: string
}

export class Offering {
  /** Told when an origin fell ill or recovered. */
  onHealth: () => void = () => undefined
  /** What of the gateway's word is not followed, and why. */
  refused: readonly RefusedPush[] = []
  private readonly clock: Clock
  private readonly every: Origin | undefined
  /** With one target for all: only these, if they are said. */
  private readonly names: ReadonlySet<string> | undefined
  private readonly each = new Map<string, Origin>()
  /** By its text: where this agent may go for a service that it does not name itself. */
  private readonly permitted = new Map<string, Origin>()
  private allowed: readonly ServedService[] = []
  private readonly serving = new Map<string, Origin>()
  /** By origin and check: services of one origin share theirs. */
  private readonly checks = new Map<string, Health>()
  private readonly checkOf = new Map<string, Health>()

  constructor(services: Services, clock: Clock) {
    this.clock = clock
    if ('every' in services) {
      this.every = new Origin(services.every)
      this.names = services.names === undefined ? undefined : new Set(services.names)
      return
    }
    for (const [name, options] of services.each) this.each.set(name, new Origin(options))
    for (const options of services.permitted ?? []) this.permitted.set(options.target.text, new Origin(options))
    for (const origin of this.each.values()) if (!this.permitted.has(origin.target.text)) this.permitted.set(origin.target.text, origin)
  }

  /** The gateway said what this agent may serve. */
  allow(services: readonly ServedService[]): void {
    this.allowed = services
    this.serving.clear()
    const refused: RefusedPush[] = []
    for (const service of services) {
      const origin = this.originFor(service)
      if (typeof origin === 'string') refused.push({ what: service.name, reason: origin })
      else this.serving.set(service.name, origin)
    }
    this.refused = refused
    this.checkAll()
  }

  /** Nothing that the gateway says leads anywhere but to a target of the agent's own configuration. */
  private originFor({ name, origin: suggested }: ServedService): Origin | string {
    if (this.every !== undefined) return this.names?.has(name) === false ? 'it was started for other services' : this.every
    const own = this.each.get(name)
    if (own !== undefined) return own
    if (suggested === undefined) return 'it has no target for it'
    return this.permitted.get(textOf(suggested)) ?? `it does not permit the target ${suggested}`
  }

  /** What it serves from now on. */
  get served(): Served[] {
    return this.allowed.flatMap(({ name, hosts }) => {
      const origin = this.serving.get(name)
      return origin === undefined ? [] : [{ name, hosts, target: origin.target.text }]
    })
  }

  /** All that the gateway lets it serve, and what came of it. */
  get offers(): Offer[] {
    return this.allowed.map(({ name, hosts }) => {
      const target = this.serving.get(name)?.target.text ?? null
      const reason = this.checkOf.get(name)?.reason ?? this.refused.find(({ what }) => what === name)?.reason ?? null
      return { name, hosts, target, serves: target !== null, reason }
    })
  }

  /** Configured here, but not allowed by the gateway. */
  get unwanted(): string[] {
    return [...(this.names ?? this.each.keys())].filter((name) => !this.serving.has(name))
  }

  /** What it serves with an origin that is not well. */
  get unwell(): Unwell[] {
    return [...this.checkOf].flatMap(([name, { reason }]) => (reason === undefined ? [] : [{ name, target: this.serving.get(name)!.target.text, reason }]))
  }

  /** Exchanges under way. */
  get active(): number {
    return this.origins.reduce((sum, origin) => sum + origin.active, 0)
  }

  /** Since the start: exchanges that are over, and what of these failed for the origin's sake. */
  get counts(): { readonly served: number; readonly failed: number } {
    const sum = (of: 'served' | 'failed'): number => this.origins.reduce((so, origin) => so + origin[of], 0)
    return { served: sum('served'), failed: sum('failed') }
  }

  take(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    return this.serving.get(opening.service)?.take(opening, stream) ?? errors.not_served
  }

  async close(): Promise<void> {
    this.allow([])
    await Promise.all(this.origins.map((origin) => origin.close()))
  }

  // What is checked already goes on being checked: what is known of it stays known.
  private checkAll(): void {
    const wanted = new Set<string>()
    this.checkOf.clear()
    for (const { name, health } of this.allowed) {
      const origin = this.serving.get(name)
      const check = origin?.ownCheck ?? health
      if (origin === undefined || check === undefined || check === 'none') continue
      const key = keyOf(origin, check)
      wanted.add(key)
      const known = this.checks.get(key) ?? new Health(origin.checked, check, this.clock, () => this.onHealth())
      this.checks.set(key, known)
      this.checkOf.set(name, known)
    }
    for (const [key, health] of this.checks) {
      if (wanted.has(key)) continue
      health.stop()
      this.checks.delete(key)
    }
  }

  private get origins(): Origin[] {
    return this.every === undefined ? [...new Set([...this.each.values(), ...this.permitted.values()])] : [this.every]
  }
}

const keyOf = ({ checked }: Origin, check: HealthCheck): string => JSON.stringify([checked.target.text, checked.host, checked.verifyTls, check])

/** As parseTarget() writes it; what is no target is permitted nowhere. */
function textOf(typed: string): string {
  try {
    return parseTarget(typed, process.platform).text
  } catch {
    return ''
  }
}

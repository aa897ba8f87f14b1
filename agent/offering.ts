// What an agent has to serve: names and their origins, held against what its gateway lets it serve.
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Opening, Stream, StreamEvents } from '../protocol/stream.ts'
import { Origin, type OriginOptions } from './origin.ts'

/** One target for every service of the agent, or a target a service. */
export type Services = { readonly every: OriginOptions; readonly names?: readonly string[] } | { readonly each: ReadonlyMap<string, OriginOptions> }

export interface Served {
  readonly name: string
  readonly hosts: readonly string[]
  readonly target: string
}

export class Offering {
  private readonly every: Origin | undefined
  /** With one target for all: only these, if they are said. */
  private readonly names: ReadonlySet<string> | undefined
  private readonly each = new Map<string, Origin>()
  private allowed: readonly { readonly name: string; readonly hosts: readonly string[] }[] = []
  private readonly serving = new Map<string, Origin>()

  constructor(services: Services) {
    if ('every' in services) {
      this.every = new Origin(services.every)
      this.names = services.names === undefined ? undefined : new Set(services.names)
    } else for (const [name, options] of services.each) this.each.set(name, new Origin(options))
  }

  /** The gateway said what this agent may serve. */
  allow(services: readonly { readonly name: string; readonly hosts: readonly string[] }[]): void {
    this.allowed = services
    this.serving.clear()
    for (const { name } of services) {
      const origin = this.every === undefined ? this.each.get(name) : this.names?.has(name) === false ? undefined : this.every
      if (origin !== undefined) this.serving.set(name, origin)
    }
  }

  /** What it serves from now on. */
  get served(): Served[] {
    return this.allowed.flatMap(({ name, hosts }) => {
      const origin = this.serving.get(name)
      return origin === undefined ? [] : [{ name, hosts, target: origin.target.text }]
    })
  }

  /** Configured here, but not allowed by the gateway. */
  get unwanted(): string[] {
    return [...(this.names ?? this.each.keys())].filter((name) => !this.serving.has(name))
  }

  /** Exchanges under way. */
  get active(): number {
    return this.origins.reduce((sum, origin) => sum + origin.active, 0)
  }

  /** Nothing that the gateway says leads anywhere but to a target of the agent's own configuration. */
  take(opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    return this.serving.get(opening.service)?.take(opening, stream) ?? errors.not_served
  }

  async close(): Promise<void> {
    await Promise.all(this.origins.map((origin) => origin.close()))
  }

  private get origins(): Origin[] {
    return this.every === undefined ? [...this.each.values()] : [this.every]
  }
}

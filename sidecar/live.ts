// The main thread's answers to the control server: sessions and channels as they are, whether visitors can come, and the ending of what is to end.
import type { Clock } from '../protocol/clock.ts'
import type { RefusedPush } from '../protocol/control.ts'
import { errors } from '../protocol/errors.ts'
import type { Reading } from './agent-figures.ts'
import type { LiveGateway, LiveSession, Ready, SessionsAsked } from './control-live.ts'
import type { Gateway } from './gateway.ts'
import type { Member } from './member.ts'
import type { Presence } from './presence.ts'
import type { Registry } from './registry.ts'
import type { Routes } from './routes.ts'

export interface LiveParts {
  readonly gateway: Gateway
  readonly registry: Registry
  readonly routes: Routes
  readonly clock: Clock
}

export class Live implements LiveGateway {
  private readonly parts: LiveParts
  /** A cursor must outlive the session that it names: sessions are numbered as they are seen, in the order in which they came. */
  private readonly numbers = new WeakMap<Member, number>()
  private lastNumber = 0

  constructor(parts: LiveParts) {
    this.parts = parts
  }

  ready(): Ready {
    const { gateway, registry, routes } = this.parts
    let sessions = 0
    for (const _member of registry.members()) sessions++
    return { ready: routes.published, waits_for: routes.published ? [] : ['route table'], exchanges: gateway.underWay, sessions }
  }

  sessions({ after, limit, agent }: SessionsAsked): { items: readonly LiveSession[]; next: string | null } {
    const from = Number(after)
    const items: LiveSession[] = []
    let last = 0
    for (const member of this.parts.registry.members()) {
      const number = this.numberOf(member)
      if (number <= from || (agent !== undefined && member.agentId !== agent)) continue
      if (items.length === limit) return { items, next: String(last) }
      items.push(this.shown(member))
      last = number
    }
    return { items, next: null }
  }

  session(id: string): LiveSession | undefined {
    const member = this.member(id)
    return member === undefined ? undefined : this.shown(member)
  }

  figures(id: string): Promise<Reading> | undefined {
    return this.member(id)?.figures.read()
  }

  presence(services: readonly string[]): Presence[] {
    return services.map((service) => this.parts.registry.serving.presence(service))
  }

  disconnect(id: string): boolean {
    const member = this.member(id)
    member?.session.end(errors.disconnected, errors.disconnected.says)
    return member !== undefined
  }

  cut(id: string, channel: number): boolean {
    const carrier = this.member(id)?.session.carriers[channel]
    carrier?.abort()
    return carrier !== undefined
  }

  private member(id: string): Member | undefined {
    for (const member of this.parts.registry.members()) if (member.session.id === id) return member
    return undefined
  }

  private numberOf(member: Member): number {
    let number = this.numbers.get(member)
    if (number === undefined) this.numbers.set(member, (number = ++this.lastNumber))
    return number
  }

  private shown(member: Member): LiveSession {
    const { session } = member
    const now = this.parts.clock.now()
    const { sentBytes, receivedBytes } = session.volume
    return {
      id: session.id,
      agent: member.agentId,
      instance: member.instance,
      peer: member.peer,
      channels: session.channelFacts.map(({ carrier: { kind, peer, worker }, roundTripMs, lanes, since, streams, volume: { sentBytes, receivedBytes } }) => {
        return { kind, peer, worker, round_trip_ms: roundTripMs ?? null, lanes, age_s: (now - since) / 1_000, streams, sent_bytes: sentBytes, received_bytes: receivedBytes }
      }),
      unhealthy: member.serving.filter((service) => member.unhealthy.has(service)),
      refused: member.untoldCount === 0 ? member.refused : [untold(member.untoldCount), ...member.refused],
      says: member.status?.said ?? null,
      attached: session.attached,
      services: member.serving,
      streams: session.streamCount,
      exchanges: member.load,
      sent_bytes: sentBytes,
      received_bytes: receivedBytes,
      // Infinite as long as nothing was measured.
      round_trip_ms: Number.isFinite(session.roundTripMs) ? session.roundTripMs : null,
      age_s: (now - member.since) / 1_000,
    }
  }
}

const untold = (count: number): RefusedPush => ({ what: 'services', reason: `it may serve ${String(count)} more than an agent can be told of` })

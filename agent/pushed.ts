// What the gateway sets for this agent, held against what its own user has set: the user's word counts. What is agreed on at a login takes another one (renewal.ts).
import type { PushedSettings, RefusedPush } from '../protocol/control.ts'
import { LANES_MAX_COUNT } from '../protocol/limits.ts'
import type { Candidate } from './candidates.ts'
import { Demands } from './demands.ts'

/** A setting as its user made it, and where. */
export interface Own {
  readonly value: string
  readonly source: 'flag' | 'environment' | 'file'
}

/** By the names of the file's keys; those that the user left alone are not there. */
export type OwnSettings = Readonly<Partial<Record<'gateway' | 'channel' | 'pipe' | 'proxy' | 'connections' | 'policy' | 'ca' | 'pin' | 'client_cert' | 'client_key', Own>>>

export interface Setting {
  readonly name: string
  readonly value: string
  readonly source: Own['source'] | 'gateway' | 'default'
  /** Why the gateway's wish is not followed; null if it is, or has none. */
  readonly refused: string | null
}

/** What is not set anywhere. */
const DEFAULTS = { channel: 'auto', connections: '1', policy: 'always' } as const

export class Pushed {
  readonly demands: Demands
  private readonly own: OwnSettings
  private readonly candidates: readonly Candidate[]
  private settings: PushedSettings = {}
  private told: readonly RefusedPush[] = []

  constructor(own: OwnSettings, candidates: readonly Candidate[]) {
    this.own = own
    const trust = candidates.find((candidate) => candidate.trust !== undefined)?.trust
    const demands = new Demands({ own: trust, without: !candidates.some(({ gateway, pipe }) => pipe === undefined && /^(https|tls):/i.test(gateway)) })
    this.demands = demands
    this.candidates = candidates.map((candidate) => ({ ...candidate, trust: { pins: [], ...candidate.trust, demands } }))
  }

  take(settings: PushedSettings): void {
    this.settings = settings
    this.demands.take(settings.tls)
  }

  /** Is payload to go unsealed, if the gateway sets this? Only where both ends say so. */
  unsealed({ encryption }: PushedSettings = this.settings): boolean {
    return encryption === 'never' && this.own.policy?.value === 'never'
  }

  /** Channels to wish for at once. */
  get connections(): number {
    const { own, settings } = this
    return own.connections === undefined ? Math.min(LANES_MAX_COUNT, settings.connections ?? 1) : Number(own.connections.value)
  }

  /** The channels that may be tried. */
  get allowed(): readonly Candidate[] {
    const kinds = this.settings.channels
    if (kinds === undefined || this.own.channel !== undefined) return this.candidates
    const some = this.candidates.filter(({ kind }) => kinds.includes(kind))
    // An agent that no channel is left to would never hear of another setting.
    return some.length > 0 ? some : this.candidates
  }

  get refused(): RefusedPush[] {
    const { own, settings, candidates } = this
    const refused = this.demands.refused
    if (settings.connections !== undefined && own.connections !== undefined) refused.push({ what: 'connections', reason: by(own.connections) })
    if (settings.encryption === 'never' && !this.unsealed()) refused.push({ what: 'encryption', reason: own.policy === undefined ? 'it was not started with policy never' : by(own.policy) })
    const kinds = settings.channels
    if (kinds === undefined) return refused
    if (own.channel !== undefined) refused.push({ what: 'channels', reason: by(own.channel) })
    else if (!candidates.some(({ kind }) => kinds.includes(kind))) refused.push({ what: 'channels', reason: 'it has a way for none of these' })
    return refused
  }

  /** Of what is refused, that which is news since this was asked last. */
  news(): RefusedPush[] {
    const { refused, told } = this
    this.told = refused
    return refused.filter(({ what, reason }) => !told.some((one) => one.what === what && one.reason === reason))
  }

  /** Every setting that there is a value for, and who has the say. */
  get list(): Setting[] {
    const taken = this.refused.some(({ what }) => what === 'channels') ? undefined : this.settings.channels
    const pushed = { channel: taken?.join(', '), connections: this.settings.connections?.toString() }
    const all = { ...DEFAULTS, ...Object.fromEntries(Object.entries(pushed).filter(([, value]) => value !== undefined)) } as Record<string, string>
    for (const [name, { value }] of Object.entries(this.own)) all[name] = value
    const tls = this.demands.list.map(([name, value]): Setting => ({ name, value, source: 'gateway', refused: this.refused.find(({ what }) => what === name)?.reason ?? null }))
    const others = Object.entries(all).map(([name, value]): Setting => {
      const own = (this.own as Partial<Record<string, Own>>)[name]
      const refused = this.refused.find(({ what }) => what === name || what === `${name}s`)?.reason ?? null
      const follows = own === undefined && refused === null && pushed[name as keyof typeof pushed] !== undefined
      return { name, value, source: own?.source ?? (follows ? 'gateway' : 'default'), refused }
    })
    return [...others, ...this.agreed, ...tls]
  }

  /** What both ends of a session keep, as the gateway says it. */
  private get agreed(): Setting[] {
    const { heartbeat_ms, dead_after_ms, grace_ms, encryption } = this.settings
    const refused = this.refused.find(({ what }) => what === 'encryption')?.reason ?? null
    return Object.entries({ heartbeat_ms, dead_after_ms, grace_ms, encryption }).flatMap(([name, value]): Setting[] => {
      return value === undefined ? [] : [{ name, value: String(value), source: 'gateway', refused: name === 'encryption' ? refused : null }]
    })
  }
}

const by = ({ value, source }: Own): string => `its own ${source} says ${value}`

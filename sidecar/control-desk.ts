// What the control server's operations share: changes to the store with their history, their publication, and whoever waits for what happens.
import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { FastifyRequest } from 'fastify'
import type { Who } from './control-access.ts'
import type { LiveFar } from './control-live.ts'
import { Problem } from './control-problem.ts'
import { type AgentSettings, PAGE_MAX_COUNT } from './control-schemas.ts'
import type { Asked, Said } from './control-operation.ts'
import type { AgentEntry, ServiceEntry } from './directory.ts'
import type { Change } from './known.ts'
import { isUnwritable, type Store } from './store.ts'
import type { StoredAgent } from './store-agents.ts'
import type { Kept, StoredExchange } from './store-history.ts'
import type { StoredService } from './store-services.ts'

export interface DeskOptions {
  readonly store: Store
  readonly serverSetup: string
  readonly publicUrl: string | undefined
  readonly version: string
  /** Hostnames that the control server is served on: no service has one of them. */
  readonly controlHosts: readonly string[]
  /** How much history there is to be. */
  readonly kept: Kept
  /** Milliseconds since 1970. */
  now(): number
  /** So many random bytes. */
  random(bytes: number): Buffer
  /** Resolves when the hot path and nginx know it. */
  publish(change: Change): Promise<void>
  readonly live: LiveFar
  /** The store can't be written; `undefined`: it can again. Once for each. */
  onTrouble(error: Error | undefined): void
}

/** A change for the history: what was done to which resource. */
export interface Deed {
  readonly kind: string
  readonly subject: string
  readonly detail?: Readonly<Record<string, unknown>>
}

/** How long an Idempotency-Key is remembered, and how many answers that may not be stored are. */
const CREATIONS_KEPT_MS = 86_400_000
const ANSWERS_KEPT_COUNT = 1_000
const PAGE_COUNT = 100
const SETTINGS_KEY = 'settings'

export class Desk {
  readonly options: DeskOptions
  readonly store: Store
  readonly live: LiveFar
  /** Called after each thing that came into the history. */
  readonly listeners = new Set<() => void>()
  /** Called with the exchanges of a batch once the store has them. */
  readonly exchangeListeners = new Set<(exchanges: readonly StoredExchange[]) => void>()
  private troubled = false
  /** What creations answered: with secrets in it, and so in memory alone. */
  private readonly answers = new Map<string, Said>()
  private readonly underWay = new Set<string>()

  constructor(options: DeskOptions) {
    this.options = options
    this.store = options.store
    this.live = options.live
  }

  now(): number {
    return this.options.now()
  }

  /** Writes all of it, or nothing, with its entry in the history. */
  change(who: Who, deed: Deed, write: () => void): void {
    this.write(() => {
      write()
      this.note(who, deed)
    })
  }

  /** Puts it into the history. To be called within write(). */
  note(who: Who, { kind, subject, detail = {} }: Deed): void {
    this.store.history.add({ at: this.now(), kind, subject, who: who.name, detail })
  }

  /** Writes all of it, or nothing. Tells when that begins to fail, and when it works again. */
  write(change: () => void): void {
    try {
      this.store.whole(change)
    } catch (error) {
      if (!isUnwritable(error)) throw error
      if (!this.troubled) this.options.onTrouble(error as Error)
      this.troubled = true
      throw new Problem(507, 'store_unwritable', `nothing was changed, for the store can not be written: ${(error as Error).message}`)
    }
    if (this.troubled) this.options.onTrouble(undefined)
    this.troubled = false
    for (const listener of this.listeners) listener()
  }

  /** What is set for all agents. */
  settings(): AgentSettings {
    return JSON.parse(this.store.setting(SETTINGS_KEY, () => '{}')) as AgentSettings
  }

  putSettings(settings: AgentSettings): void {
    this.store.putSetting(SETTINGS_KEY, JSON.stringify(settings))
  }

  /** Lets the hot path know an agent as it is now. */
  publishAgent(id: string, agent: StoredAgent | undefined): Promise<void> {
    return this.options.publish({ agent: id, entry: agent === undefined ? undefined : entryOf(agent, this.now()) })
  }

  /** The same for services, all of which change at once. */
  publishServices(changes: readonly { readonly name: string; readonly after: StoredService | undefined }[]): Promise<void> {
    return this.options.publish({ services: changes.map(({ name, after }) => ({ name, entry: after === undefined ? undefined : serviceEntryOf(after) })) })
  }

  /** Does what a creation asks once, however often it is asked with the same key; `make` writes within the store's transaction. */
  async create({ request, who }: Asked<unknown, unknown, unknown>, make: (remember: () => void) => Promise<Said>): Promise<Said> {
    const key = request.headers['idempotency-key']
    if (typeof key !== 'string') return make(() => undefined)
    const name = createHash('sha256').update(JSON.stringify([who.name, request.method, request.url, key])).digest('hex')
    const body = createHash('sha256').update(JSON.stringify(request.body)).digest()
    const before = this.store.tokens.creation(name)
    if (before !== undefined && !isDeepStrictEqual(Buffer.from(before.request), body)) throw new Problem(422, 'key_reused', 'the Idempotency-Key was used for another request')
    const answer = this.answers.get(name)
    if (before !== undefined && answer !== undefined) return answer
    if (before !== undefined) throw new Problem(409, 'made_already', `it was made as ${before.location}, and what is shown once is not shown again`)
    if (this.underWay.has(name)) throw new Problem(409, 'under_way', 'a request with this Idempotency-Key is under way')
    this.underWay.add(name)
    try {
      const said = await make(() => this.store.tokens.addCreation({ key: name, request: body, location: request.url, at: this.now() }))
      this.answers.set(name, said)
      if (this.answers.size > ANSWERS_KEPT_COUNT) this.answers.delete(this.answers.keys().next().value!)
      return said
    } finally {
      this.underWay.delete(name)
    }
  }

  /** Keeps out the agents whose time ended since then. A full disk keeps nobody in: only the history lacks it. */
  async expire(since: number): Promise<void> {
    for (const id of this.store.agents.expiredBetween(since, this.now())) {
      await this.options.publish({ agent: id, entry: undefined })
      try {
        this.change({ name: 'gateway', scopes: [] }, { kind: 'agent_expired', subject: `agents/${id}` }, () => undefined)
      } catch (error) {
        if (!(error instanceof Problem)) throw error
      }
    }
  }

  /** Forgets some of what is old. True: there may be more of it. */
  forget(): boolean {
    this.store.tokens.forgetCreations(this.now() - CREATIONS_KEPT_MS)
    return this.store.history.forget(this.now(), this.options.kept)
  }
}

/** Why an agent may not come in, or that it may. */
export function stateOf(agent: StoredAgent, now: number): 'active' | 'disabled' | 'revoked' | 'expired' {
  if (agent.revoked) return 'revoked'
  if (agent.expiresAt !== null && agent.expiresAt <= now) return 'expired'
  return agent.disabled ? 'disabled' : 'active'
}

/** The agent as the hot path is to know it; undefined: it may not come in. */
export function entryOf(agent: StoredAgent, now: number): AgentEntry | undefined {
  const { id, record, services, labels, settings } = agent
  return stateOf(agent, now) === 'active' ? { id, record, services, labels, settings } : undefined
}

export function serviceEntryOf(service: StoredService): ServiceEntry {
  const { name, hosts, prefixes, conceal, trailers, labels, origin, policy } = service
  return { name, hosts, prefixes, conceal, trailers, labels, policy, ...(origin === null ? {} : { origin }) }
}

export const moment = (at: number | null): string | null => (at === null ? null : new Date(at).toISOString())

/** Throws a Problem if there is none. */
export function known<T>(entry: T | undefined, what: string): T {
  if (entry === undefined) throw new Problem(404, 'not_found', `there is no ${what}`)
  return entry
}

/** The strong ETag of what a resource shows. */
export const etagOf = (shown: object): string => `"${createHash('sha256').update(JSON.stringify(shown)).digest('base64url').slice(0, 22)}"`

/** Throws a Problem unless `shown` is what whoever changes it has seen; undefined: there is no such resource. */
export function checkMatch(request: FastifyRequest, shown: object | undefined, edits: 'must' | 'may'): void {
  const asked = request.headers['if-match']
  if (asked === undefined) {
    if (edits === 'must' && shown !== undefined) throw new Problem(428, 'if_match_needed', 'say in If-Match which ETag was read, or * to change it whatever it is')
    return
  }
  const tags = asked.split(',').map((tag) => tag.trim())
  if (shown !== undefined && (asked.trim() === '*' || tags.includes(etagOf(shown)))) return
  throw new Problem(412, 'changed_since', shown === undefined ? 'it is not there' : 'it was changed since it was read')
}

/** How many entries a page is asked to have. */
export const limitOf = (query: { readonly limit?: string }): number => Math.min(Number(query.limit ?? PAGE_COUNT), PAGE_MAX_COUNT)

/** A page of entries of which one more was read than asked for. */
export function pageOf<T>(rows: readonly T[], limit: number, keyOf: (row: T) => string): { items: readonly T[]; next: string | null } {
  const items = rows.slice(0, limit)
  return { items, next: rows.length > limit ? keyOf(items.at(-1)!) : null }
}

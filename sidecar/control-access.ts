// Who may ask the control server: whoever may connect to control.sock is the owner; who comes by a control host shows a token, and wrong ones are counted.
import { createHash } from 'node:crypto'
import type { Server } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from './control-problem.ts'
import type { Scope } from './control-schemas.ts'
import type { Store } from './store.ts'

export interface Who {
  /** For the history. */
  readonly name: string
  readonly scopes: readonly Scope[]
}

/** Wrong tokens that one source may show in a minute. 256 bits are not guessed: this bounds what guessing costs us. */
const WRONG_MAX_COUNT = 10
const WRONG_WINDOW_MS = 60_000
/** Sources that are remembered; the oldest goes for each on top. */
const SOURCES_MAX_COUNT = 4_096

const OWNER: Who = { name: 'owner', scopes: ['all'] }
const BEARER = /^Bearer +([A-Za-z0-9_-]{1,255})$/i

export const hashOf = (secret: string): Buffer => createHash('sha256').update(secret).digest()

interface AccessOptions {
  readonly store: Store
  /** Hostnames that the control server is served on. */
  readonly controlHosts: readonly string[]
  now(): number
  /** A wrong token, once in a minute for each source. */
  onWrong(source: string): void
}

export class Access {
  /** Its connections come from nginx, for anybody; every other connection is the owner's. */
  outside: Server | undefined
  private readonly options: AccessOptions
  private readonly known = new WeakMap<FastifyRequest, Who>()
  private readonly wrong = new Map<string, { count: number; until: number }>()

  constructor(options: AccessOptions) {
    this.options = options
  }

  /** Throws a Problem unless whoever asks may. */
  check(request: FastifyRequest, reply: FastifyReply, scope: Scope | null): void {
    if (this.isOwner(request)) return void this.known.set(request, OWNER)
    const host = (request.headers.host ?? '').toLowerCase().replace(/:[0-9]+$/, '')
    if (!this.options.controlHosts.includes(host)) throw new Problem(421, 'wrong_host', 'the control server is not served on this hostname')
    if (scope === null) return void this.known.set(request, { name: 'anybody', scopes: [] })
    const who = this.bearer(request, reply)
    if (!who.scopes.includes('all') && !who.scopes.includes(scope) && scope !== 'read') throw new Problem(403, 'wrong_scope', `this needs a token with the scope ${scope}`)
    this.known.set(request, who)
  }

  who(request: FastifyRequest): Who {
    return this.known.get(request)!
  }

  private isOwner(request: FastifyRequest): boolean {
    return this.outside === undefined || (request.raw.socket as { server?: unknown }).server !== this.outside
  }

  // A right token is taken whatever its source did: nobody locks the owner out.
  private bearer(request: FastifyRequest, reply: FastifyReply): Who {
    const { store, now } = this.options
    const secret = BEARER.exec(request.headers.authorization ?? '')?.[1]
    const token = secret === undefined ? undefined : store.tokens.byHash(hashOf(secret))
    if (token !== undefined && (token.expiresAt === null || token.expiresAt > now())) return { name: `token ${token.name}`, scopes: token.scopes }
    const wait = secret === undefined ? 0 : this.countWrong(String(request.headers['x-real-ip'] ?? ''))
    if (wait > 0) {
      reply.header('Retry-After', String(Math.ceil(wait / 1_000)))
      throw new Problem(429, 'too_many_wrong', 'too many wrong tokens came from there')
    }
    reply.header('WWW-Authenticate', 'Bearer realm="postern"')
    throw new Problem(401, 'unauthenticated', secret === undefined ? 'this needs a token: Authorization: Bearer …' : 'the token is unknown or expired')
  }

  /** How long that source has to wait, in milliseconds. */
  private countWrong(source: string): number {
    const now = this.options.now()
    let entry = this.wrong.get(source)
    if (entry === undefined || entry.until <= now) {
      this.wrong.delete(source)
      this.wrong.set(source, (entry = { count: 0, until: now + WRONG_WINDOW_MS }))
      if (this.wrong.size > SOURCES_MAX_COUNT) this.wrong.delete(this.wrong.keys().next().value!)
      this.options.onWrong(source)
    }
    return ++entry.count > WRONG_MAX_COUNT ? entry.until - now : 0
  }
}

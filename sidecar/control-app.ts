// The control server's resources: agents, services, sessions, health.
import Fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify'
import { encodeJoin } from '../protocol/join.ts'
import { publicKey, register } from '../protocol/opaque.ts'
import type { StatusSaid } from '../protocol/status.ts'
import { answerError, Problem } from './control-problem.ts'
import { schemas } from './control-schemas.ts'
import type { AgentEntry, ServiceEntry } from './directory.ts'
import { isHost, PREFIXES_MAX_COUNT } from './routes.ts'
import { isGatewayUrl } from './settings.ts'
import { isUnwritable, type Store } from './store.ts'

/** A change that the store has taken and the hot path is to know. */
export type Change = { readonly agent: string; readonly entry: AgentEntry | undefined } | { readonly service: string; readonly entry: ServiceEntry | undefined }

export interface LiveChannel {
  readonly kind: string
  readonly peer: string
  /** The nginx worker it came through; 0: none, or unknown. */
  readonly worker: number
  /** Null before it was measured. */
  readonly round_trip_ms: number | null
  readonly lanes: readonly number[]
  readonly age_s: number
}

export interface LiveSession {
  readonly id: string
  readonly agent: string
  readonly instance: string
  readonly peer: string
  readonly channels: readonly LiveChannel[]
  /** What the agent says of itself: by which ways it came. Null if it says nothing. */
  readonly says: StatusSaid | null
  readonly attached: boolean
  readonly services: readonly string[]
  readonly streams: number
  readonly round_trip_ms: number
  /** Seconds since it began. */
  readonly age_s: number
}

/** What only the running gateway knows. */
export interface Live {
  readonly ready: boolean
  /** Why it is not. */
  readonly waits_for: readonly string[]
  readonly exchanges: number
  readonly sessions: readonly LiveSession[]
}

export interface ControlOptions {
  readonly store: Store
  readonly serverSetup: string
  readonly publicUrl: string | undefined
  readonly version: string
  /** So many random bytes. */
  random(bytes: number): Buffer
  /** Resolves when the hot path and nginx know it. */
  publish(change: Change): Promise<void>
  live(): Promise<Live>
  /** The store can't be written; `undefined`: it can again. Once for each. */
  onTrouble(error: Error | undefined): void
  /** A fault of our own, for the log: whoever asked is told no more than that there was one. */
  onFault(error: Error): void
}

/** 256 bits: nobody chooses or guesses it. */
const SECRET_BYTES = 32
const BODY_MAX_BYTES = 1_048_576
const PARAMETER_MAX_BYTES = 255
const PAGE_MAX_COUNT = 1_000

/** Makes the app. It listens nowhere yet. */
export function createControlApp(options: ControlOptions): FastifyInstance {
  const { store, publish, live } = options
  const app = Fastify({
    bodyLimit: BODY_MAX_BYTES,
    routerOptions: { maxParamLength: PARAMETER_MAX_BYTES },
    exposeHeadRoutes: false,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, allErrors: true } },
    // What is wrong before there is a resource, such as a `%` with nothing behind it in the path.
    frameworkErrors: (error, _request, reply) => void answerError(error, reply, options.onFault),
  })
  app.setErrorHandler((error: FastifyError, _request, reply) => answerError(error, reply, options.onFault))
  app.setNotFoundHandler((request) => {
    throw new Problem(404, 'not_found', `there is no ${request.url}`)
  })
  const write = writerOf(options)

  const known = <T>(entry: T | undefined, what: string): T => {
    if (entry === undefined) throw new Problem(404, 'not_found', `there is no ${what}`)
    return entry
  }
  const checkServices = (names: readonly string[]): void => {
    const faults = names.filter((name) => store.service(name) === undefined).map((name) => ({ field: 'services', reason: `there is no service ${name}` }))
    if (faults.length > 0) throw new Problem(409, 'unknown_service', faults.map(({ reason }) => reason).join('; '), faults)
  }

  app.get('/v1/health', () => ({ status: 'ok', version: options.version }))
  app.get('/v1/ready', async (_request, reply) => {
    const { ready, waits_for, exchanges, sessions } = await live()
    return reply.code(ready ? 200 : 503).send({ ready, waits_for, exchanges, sessions: sessions.length })
  })
  app.get('/v1/sessions', async () => ({ items: (await live()).sessions }))

  app.get('/v1/agents', { schema: schemas.page }, (request) => page(request, store.agents().map(shown), ({ id }) => id))
  app.get<{ Params: { id: string } }>('/v1/agents/:id', { schema: schemas.agent }, ({ params }) => shown(known(store.agent(params.id), `agent ${params.id}`)))
  app.post<{ Body: { id: string; services: string[]; url?: string } }>('/v1/agents', { schema: schemas.agentCreate }, async ({ body }, reply) => {
    const at = body.url ?? options.publicUrl
    if (body.url !== undefined && !isGatewayUrl(body.url)) throw new Problem(400, 'invalid', `${JSON.stringify(body.url)} is no URL`, [{ field: 'url', reason: 'no URL' }])
    if (at === undefined) {
      const faults = [{ field: 'url', reason: 'needed as long as public_url is not set' }]
      throw new Problem(409, 'no_url', 'the gateway does not know where agents find it: set public_url, or say url', faults)
    }
    if (store.agent(body.id) !== undefined) throw new Problem(409, 'exists', `there is an agent ${body.id} already`, [{ field: 'id', reason: 'in use' }])
    checkServices(body.services)
    const secret = options.random(SECRET_BYTES).toString('base64url')
    const entry: AgentEntry = { id: body.id, record: register(options.serverSetup, body.id, secret), services: body.services }
    write(() => store.putAgent(entry))
    await publish({ agent: entry.id, entry })
    const join = encodeJoin({ url: at, id: entry.id, secret, key: publicKey(options.serverSetup) })
    return reply.code(201).header('Location', `/v1/agents/${entry.id}`).header('Cache-Control', 'no-store').send({ ...shown(entry), join })
  })
  app.patch<{ Params: { id: string }; Body: { services: string[] } }>('/v1/agents/:id', { schema: schemas.agentChange }, async ({ params, body }) => {
    const before = known(store.agent(params.id), `agent ${params.id}`)
    checkServices(body.services)
    const entry = { ...before, services: body.services }
    write(() => store.putAgent(entry))
    await publish({ agent: entry.id, entry })
    return shown(entry)
  })
  app.delete<{ Params: { id: string } }>('/v1/agents/:id', { schema: schemas.agent }, async ({ params }, reply) => {
    known(store.agent(params.id), `agent ${params.id}`)
    write(() => store.removeAgent(params.id))
    await publish({ agent: params.id, entry: undefined })
    return reply.code(204).send()
  })

  app.get('/v1/services', { schema: schemas.page }, (request) => page(request, store.services(), ({ name }) => name))
  app.get<{ Params: { name: string } }>('/v1/services/:name', { schema: schemas.service }, ({ params }) => known(store.service(params.name), `service ${params.name}`))
  app.put<{ Params: { name: string }; Body: Partial<ServiceEntry> & { hosts: string[] } }>('/v1/services/:name', { schema: schemas.servicePut }, async ({ params, body }, reply) => {
    const entry = serviceOf(params.name, body)
    checkPlaces(store, entry)
    const created = store.service(entry.name) === undefined
    write(() => store.putService(entry))
    await publish({ service: entry.name, entry })
    return reply.code(created ? 201 : 200).send(entry)
  })
  app.delete<{ Params: { name: string } }>('/v1/services/:name', { schema: schemas.service }, async ({ params }, reply) => {
    known(store.service(params.name), `service ${params.name}`)
    const users = store.agents().filter(({ services }) => services.includes(params.name)).map(({ id }) => id)
    if (users.length > 0) throw new Problem(409, 'in_use', `agents may serve it: ${users.slice(0, 10).join(', ')}`)
    write(() => store.removeService(params.name))
    await publish({ service: params.name, entry: undefined })
    return reply.code(204).send()
  })
  for (const [url, methods] of Object.entries(METHODS)) {
    const others = app.supportedMethods.filter((method) => !methods.includes(method))
    app.route({ method: others, url, handler: (request, reply) => {
      reply.header('Allow', methods.join(', '))
      throw new Problem(405, 'no_such_method', `${request.method} is not for ${request.url}: it takes ${methods.join(', ')}`)
    } })
  }
  return app
}

/** What each resource takes. */
const METHODS: Readonly<Record<string, readonly string[]>> = {
  '/v1/health': ['GET'],
  '/v1/ready': ['GET'],
  '/v1/sessions': ['GET'],
  '/v1/agents': ['GET', 'POST'],
  '/v1/agents/:id': ['GET', 'PATCH', 'DELETE'],
  '/v1/services': ['GET'],
  '/v1/services/:name': ['GET', 'PUT', 'DELETE'],
}

/** Makes changes to the store and tells when they begin to fail, and when they work again. */
function writerOf({ onTrouble }: ControlOptions): (change: () => void) => void {
  let troubled = false
  return (change) => {
    try {
      change()
    } catch (error) {
      if (!isUnwritable(error)) throw error
      if (!troubled) onTrouble(error as Error)
      troubled = true
      throw new Problem(507, 'store_unwritable', `nothing was changed, for the store can not be written: ${(error as Error).message}`)
    }
    if (troubled) onTrouble(undefined)
    troubled = false
  }
}

// The record proves the secret: it is nobody's to see.
const shown = ({ id, services }: AgentEntry): Omit<AgentEntry, 'record'> => ({ id, services })

function serviceOf(name: string, body: Partial<ServiceEntry> & { hosts: readonly string[] }): ServiceEntry {
  const hosts = [...new Set(body.hosts.map((host) => host.toLowerCase()))]
  const faults = hosts.filter((host) => !isHost(host)).map((host) => ({ field: 'hosts', reason: `${JSON.stringify(host)} is no hostname, nor a wildcard like +.example.com` }))
  if (faults.length > 0) throw new Problem(400, 'invalid', faults.map(({ reason }) => reason).join('; '), faults)
  return { name, hosts, prefixes: body.prefixes ?? ['/'], conceal: body.conceal ?? false, trailers: body.trailers ?? false }
}

/** One place of one hostname belongs to one service, and a hostname has so many places as nginx reads. */
function checkPlaces(store: Store, entry: ServiceEntry): void {
  const others = store.services().filter(({ name }) => name !== entry.name)
  for (const host of entry.hosts) {
    let count = entry.prefixes.length
    for (const other of others) {
      if (!other.hosts.includes(host)) continue
      count += other.prefixes.length
      const prefix = other.prefixes.find((one) => entry.prefixes.includes(one))
      if (prefix !== undefined) throw new Problem(409, 'taken', `${host}${prefix} belongs to service ${other.name}`, [{ field: 'hosts', reason: `${host} with ${prefix} belongs to ${other.name}` }])
    }
    if (count <= PREFIXES_MAX_COUNT) continue
    const reason = `${host} would have ${String(count)} prefixes, and ${String(PREFIXES_MAX_COUNT)} is the most`
    throw new Problem(409, 'too_many_prefixes', reason, [{ field: 'prefixes', reason }])
  }
}

function page<T>(request: FastifyRequest, all: readonly T[], keyOf: (entry: T) => string): { items: readonly T[]; next: string | null } {
  const { limit = '100', after = '' } = request.query as { limit?: string; after?: string }
  const rest = all.filter((entry) => keyOf(entry) > after)
  const items = rest.slice(0, Math.min(Number(limit), PAGE_MAX_COUNT))
  return { items, next: items.length < rest.length ? keyOf(items.at(-1)!) : null }
}

// The control server's resources: agents, services, sessions, health. JSON schemas check what comes, problem+json (RFC 9457) says what is wrong.
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { AGENT_ID_MAX_BYTES } from '../protocol/limits.ts'
import { encodeJoin } from '../protocol/join.ts'
import { publicKey, register } from '../protocol/opaque.ts'
import type { AgentEntry, ServiceEntry } from './directory.ts'
import { isHost } from './routes.ts'
import type { Store } from './store.ts'

/** A change that the store has taken and the hot path is to know. */
export type Change = { readonly agent: string; readonly entry: AgentEntry | undefined } | { readonly service: string; readonly entry: ServiceEntry | undefined }

export interface LiveSession {
  readonly id: string
  readonly agent: string
  readonly instance: string
  readonly peer: string
  readonly channels: readonly string[]
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
}

/** 256 bits: nobody chooses or guesses it. */
const SECRET_BYTES = 32
const BODY_MAX_BYTES = 1_048_576
const PAGE_MAX_COUNT = 1_000
const HOSTS_MAX_COUNT = 256
const PREFIXES_MAX_COUNT = 64
const NAME = '^[a-z0-9][a-z0-9-]{0,62}$'
const AGENT_ID = '^[A-Za-z0-9][A-Za-z0-9._-]*$'
const PREFIX = '^/([!-~]*[!-.0-~])?$'

const agentId = { type: 'string', pattern: AGENT_ID, maxLength: AGENT_ID_MAX_BYTES }
const serviceName = { type: 'string', pattern: NAME }
const serviceNames = { type: 'array', items: serviceName, uniqueItems: true, maxItems: 10_000 }
const url = { type: 'string', pattern: '^https?://[^\\s/?#]+(/[^\\s?#]*)?$', maxLength: 2_048 }
const object = (properties: Record<string, unknown>, required: string[] = []): Record<string, unknown> => ({ type: 'object', properties, required, additionalProperties: false })

const schemas = {
  agentCreate: { body: object({ id: agentId, services: serviceNames, url }, ['id', 'services']) },
  agentChange: { params: object({ id: agentId }, ['id']), body: object({ services: serviceNames }, ['services']) },
  agent: { params: object({ id: agentId }, ['id']) },
  service: { params: object({ name: serviceName }, ['name']) },
  servicePut: {
    params: object({ name: serviceName }, ['name']),
    body: object(
      {
        hosts: { type: 'array', items: { type: 'string', maxLength: 255 }, minItems: 1, maxItems: HOSTS_MAX_COUNT, uniqueItems: true },
        prefixes: { type: 'array', items: { type: 'string', pattern: PREFIX, maxLength: 256 }, minItems: 1, maxItems: PREFIXES_MAX_COUNT, uniqueItems: true },
        conceal: { type: 'boolean' },
        trailers: { type: 'boolean' },
      },
      ['hosts'],
    ),
  },
  page: { querystring: object({ limit: { type: 'string', pattern: '^[1-9][0-9]{0,3}$' }, after: { type: 'string', maxLength: 255 } }) },
}

interface FieldFault {
  readonly field: string
  readonly reason: string
}

/** An answer that is a fault of the caller's. */
class Problem extends Error {
  readonly status: number
  readonly code: string
  readonly faults: readonly FieldFault[]

  constructor(status: number, code: string, detail: string, faults: readonly FieldFault[] = []) {
    super(detail)
    this.status = status
    this.code = code
    this.faults = faults
  }
}

const TITLES: Readonly<Record<number, string>> = { 400: 'Bad Request', 404: 'Not Found', 409: 'Conflict', 413: 'Content Too Large', 415: 'Unsupported Media Type', 500: 'Internal Server Error', 503: 'Service Unavailable', 507: 'Insufficient Storage' }

/** Makes the app. It listens nowhere yet. */
export function createControlApp(options: ControlOptions): FastifyInstance {
  const { store, publish, live } = options
  const app = Fastify({ bodyLimit: BODY_MAX_BYTES, routerOptions: { maxParamLength: 255 }, ajv: { customOptions: { removeAdditional: false, coerceTypes: false, allErrors: true } } })
  app.setErrorHandler(answerError)
  app.setNotFoundHandler((request) => {
    throw new Problem(404, 'not_found', `there is no ${request.method} ${request.url}`)
  })

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
    if (at === undefined) throw new Problem(409, 'no_url', 'the gateway does not know where agents find it: set public_url, or say url', [{ field: 'url', reason: 'needed as long as public_url is not set' }])
    if (store.agent(body.id) !== undefined) throw new Problem(409, 'exists', `there is an agent ${body.id} already`, [{ field: 'id', reason: 'in use' }])
    checkServices(body.services)
    const secret = options.random(SECRET_BYTES).toString('base64url')
    const entry: AgentEntry = { id: body.id, record: register(options.serverSetup, body.id, secret), services: body.services }
    store.putAgent(entry)
    await publish({ agent: entry.id, entry })
    const join = encodeJoin({ url: at, id: entry.id, secret, key: publicKey(options.serverSetup) })
    return reply.code(201).header('Location', `/v1/agents/${entry.id}`).header('Cache-Control', 'no-store').send({ ...shown(entry), join })
  })
  app.patch<{ Params: { id: string }; Body: { services: string[] } }>('/v1/agents/:id', { schema: schemas.agentChange }, async ({ params, body }) => {
    const before = known(store.agent(params.id), `agent ${params.id}`)
    checkServices(body.services)
    const entry = { ...before, services: body.services }
    store.putAgent(entry)
    await publish({ agent: entry.id, entry })
    return shown(entry)
  })
  app.delete<{ Params: { id: string } }>('/v1/agents/:id', { schema: schemas.agent }, async ({ params }, reply) => {
    known(store.agent(params.id), `agent ${params.id}`)
    store.removeAgent(params.id)
    await publish({ agent: params.id, entry: undefined })
    return reply.code(204).send()
  })

  app.get('/v1/services', { schema: schemas.page }, (request) => page(request, store.services(), ({ name }) => name))
  app.get<{ Params: { name: string } }>('/v1/services/:name', { schema: schemas.service }, ({ params }) => known(store.service(params.name), `service ${params.name}`))
  app.put<{ Params: { name: string }; Body: Partial<ServiceEntry> & { hosts: string[] } }>('/v1/services/:name', { schema: schemas.servicePut }, async ({ params, body }, reply) => {
    const entry = serviceOf(params.name, body)
    checkPlaces(store, entry)
    const created = store.service(entry.name) === undefined
    store.putService(entry)
    await publish({ service: entry.name, entry })
    return reply.code(created ? 201 : 200).send(entry)
  })
  app.delete<{ Params: { name: string } }>('/v1/services/:name', { schema: schemas.service }, async ({ params }, reply) => {
    known(store.service(params.name), `service ${params.name}`)
    const users = store.agents().filter(({ services }) => services.includes(params.name)).map(({ id }) => id)
    if (users.length > 0) throw new Problem(409, 'in_use', `agents may serve it: ${users.slice(0, 10).join(', ')}`)
    store.removeService(params.name)
    await publish({ service: params.name, entry: undefined })
    return reply.code(204).send()
  })
  return app
}

// The record proves the secret: it is nobody's to see.
const shown = ({ id, services }: AgentEntry): Omit<AgentEntry, 'record'> => ({ id, services })

function serviceOf(name: string, body: Partial<ServiceEntry> & { hosts: readonly string[] }): ServiceEntry {
  const hosts = body.hosts.map((host) => host.toLowerCase())
  const faults = hosts.filter((host) => !isHost(host)).map((host) => ({ field: 'hosts', reason: `${JSON.stringify(host)} is no hostname, nor a wildcard like +.example.com` }))
  if (faults.length > 0) throw new Problem(400, 'invalid', faults.map(({ reason }) => reason).join('; '), faults)
  return { name, hosts, prefixes: body.prefixes ?? ['/'], conceal: body.conceal ?? false, trailers: body.trailers ?? false }
}

/** One place of one hostname belongs to one service. */
function checkPlaces(store: Store, entry: ServiceEntry): void {
  for (const other of store.services()) {
    if (other.name === entry.name) continue
    const host = other.hosts.find((one) => entry.hosts.includes(one))
    const prefix = host === undefined ? undefined : other.prefixes.find((one) => entry.prefixes.includes(one))
    if (prefix !== undefined) throw new Problem(409, 'taken', `${host!}${prefix} belongs to service ${other.name}`, [{ field: 'hosts', reason: `${host!} with ${prefix} belongs to ${other.name}` }])
  }
}

function page<T>(request: FastifyRequest, all: readonly T[], keyOf: (entry: T) => string): { items: readonly T[]; next: string | null } {
  const { limit = '100', after = '' } = request.query as { limit?: string; after?: string }
  const rest = all.filter((entry) => keyOf(entry) > after)
  const items = rest.slice(0, Math.min(Number(limit), PAGE_MAX_COUNT))
  return { items, next: items.length < rest.length ? keyOf(items.at(-1)!) : null }
}

function answerError(error: FastifyError | Problem, _request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = error instanceof Problem ? error : problemOf(error)
  return reply
    .code(problem.status)
    .header('Content-Type', 'application/problem+json')
    .send(JSON.stringify({ type: 'about:blank', title: TITLES[problem.status] ?? 'Error', status: problem.status, detail: problem.message, code: problem.code, errors: problem.faults.length > 0 ? problem.faults : undefined }))
}

function problemOf(error: FastifyError): Problem {
  if (error.validation !== undefined) {
    const faults = error.validation.map(({ instancePath, params, message, keyword }) => {
      const missing = keyword === 'required' ? String(params.missingProperty) : keyword === 'additionalProperties' ? String(params.additionalProperty) : ''
      return { field: [instancePath.slice(1).replaceAll('/', '.'), missing].filter((part) => part !== '').join('.'), reason: message ?? keyword }
    })
    return new Problem(400, 'invalid', error.message, faults)
  }
  if (/database or disk is full|disk I\/O error/.test(error.message)) return new Problem(507, 'store_full', 'the store can not be written: is the disk full?')
  const status = error.statusCode ?? 500
  return status < 500 ? new Problem(status, 'invalid', error.message) : new Problem(500, 'fault', 'the control server made a mistake; it is in its log')
}

// What the control server's resources are, as JSON schemas: every field by its type, its alphabet and its bound, and none beside them.
import { AGENT_ID_MAX_BYTES, LANES_MAX_COUNT, STREAMS_MAX_COUNT } from '../protocol/limits.ts'
import type { CHANNEL_KINDS } from './entrances.ts'
import { policySchema, TOKEN_FIELD } from './policy.ts'
import { PREFIXES_MAX_COUNT } from './routes.ts'
import { GATEWAY_URL } from './settings.ts'
import { anything, choice, count, flag, list, mapOf, named, orNull, quantity, record, text, whole } from './schema-parts.ts'
import type { Schema, TypeOf } from './schema-type.ts'

const HOSTS_MAX_COUNT = 256
const LABELS_MAX_COUNT = 64
const SERVICES_MAX_COUNT = 10_000
export const PAGE_MAX_COUNT = 1_000
/** Bytes that mean themselves to nginx and origin alike: no `%`, no empty segment, no dot segment, which one reads as nginx writes them and another does not. */
const PREFIX = "^(?:/|(?:/(?!\\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()*+,;=:@-]+)+)$"
const ORIGIN = '^(?:https?://[^\\s/?#@]+(?:/[^\\s?#]*)?|unix:/\\S+)$'
const LABEL = '^[A-Za-z0-9](?:[A-Za-z0-9._/=-]*[A-Za-z0-9])?$'

export const agentId = text({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$', maxLength: AGENT_ID_MAX_BYTES })
export const serviceName = text({ pattern: '^[a-z0-9][a-z0-9-]{0,62}$' })
export const sessionId = text({ pattern: '^[0-9a-f]{32}$' })
export const tokenId = text({ pattern: '^[0-9a-f]{16}$' })
const moment = text({ format: 'date-time', maxLength: 32 })
const services = list(serviceName, { uniqueItems: true, maxItems: SERVICES_MAX_COUNT })
const labels = (description: string) => list(text({ pattern: LABEL, maxLength: 63 }), { uniqueItems: true, maxItems: LABELS_MAX_COUNT, description })

// The names alone: the ways in are the main thread's.
const KINDS = ['websocket', 'http2', 'tcp', 'sse', 'long-poll', 'pipe'] as const satisfies typeof CHANNEL_KINDS

/** What a few authorities need, and a chain. */
const CERTIFICATES_MAX_CHARACTERS = 12_288
const CERTIFICATE_MAX_CHARACTERS = 8_192
const KEY_MAX_CHARACTERS = 6_144
const PINS_MAX_COUNT = 16
const LABEL_OF_NAME = '[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?'
const SERVER_NAME = `^${LABEL_OF_NAME}(?:\\.${LABEL_OF_NAME})*$`
const PIN = '^(?:[A-Za-z0-9+/]{43}=|[0-9a-fA-F]{64})$'
const PRIVATE_KEY = '^(?:kept|\\s*-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^-]+-----END [A-Z0-9 ]*PRIVATE KEY-----\\s*)$'
const CERTIFICATES = '^\\s*-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----'

const tls = named('Tls', record({}, {
  ca: text({ pattern: CERTIFICATES, maxLength: CERTIFICATES_MAX_CHARACTERS, description: 'PEM: one of these is to have signed the gateway’s certificate, besides what the agent asks itself' }),
  server_name: text({ pattern: SERVER_NAME, maxLength: 253, description: 'the gateway’s certificate is to be good for this name too' }),
  pins: list(text({ pattern: PIN, maxLength: 64 }), {
    minItems: 1, maxItems: PINS_MAX_COUNT, uniqueItems: true, description: 'SHA-256 of public keys, base64 or hex: agents report another one, and go on',
  }),
  min_version: choice(['1.2', '1.3'], { description: 'of TLS' }),
  client_cert: text({ pattern: CERTIFICATES, maxLength: CERTIFICATE_MAX_CHARACTERS, description: 'PEM: what an agent shows that has no certificate of its own' }),
  client_key: text({ pattern: PRIVATE_KEY, maxLength: KEY_MAX_CHARACTERS, description: 'PEM, its key. Shown as kept; kept leaves the one that there is' }),
}))

export const settings = named('Settings', record({}, {
  channels: list(choice(KINDS), { uniqueItems: true, minItems: 1, description: 'the kinds of channels on offer' }),
  connections: whole(1, LANES_MAX_COUNT, 'channels that an agent keeps at once'),
  heartbeat_ms: whole(100, 60_000, 'a sign of life is asked for on every channel this often'),
  dead_after_ms: whole(200, 180_000, 'a channel over which nothing came for so long is dead'),
  grace_ms: whole(0, 600_000, 'a session without a channel waits so long for another'),
  encryption: choice(['always', 'never'], { description: 'payload between agent and gateway is sealed: always, or never (the agent must say so too)' }),
  streams_max_count: whole(1, STREAMS_MAX_COUNT, 'streams that an agent may open at once'),
  first_credit_bytes: whole(16_384, 6_291_456, 'what may be sent on a new stream before its reader says more'),
  tls,
}))

const agentFields = {
  services,
  labels: labels('who may serve the services that ask for them, as site=berlin'),
  settings,
  disabled: flag({ description: 'may not come in for now' }),
  expires_at: orNull(moment),
}
const agentMembers = {
  id: agentId,
  ...agentFields,
  state: choice(['active', 'disabled', 'revoked', 'expired'], { description: 'only one that is active may come in' }),
  created_at: orNull(moment),
  rotated_at: orNull(moment),
}
export const agent = named('Agent', record(agentMembers))
const url = text({ pattern: GATEWAY_URL.source, maxLength: 2_048, description: 'the gateway’s URL for this agent, instead of public_url' })
export const agentCreate = named('AgentCreate', record({ id: agentId }, { ...agentFields, url }))
export const agentChange = named('AgentChange', record({}, agentFields))
export const agentRotate = record({}, { url })
export const agentWithJoin = named('AgentWithJoin', record({ ...agentMembers, join: text({ description: 'what its agent is started with: shown this once' }) }))

const policy = named('Policy', policySchema)
const serviceFields = {
  prefixes: list(text({ pattern: PREFIX, maxLength: 256 }), { minItems: 1, maxItems: PREFIXES_MAX_COUNT, uniqueItems: true, description: 'paths, matched on the raw bytes; / is all' }),
  conceal: flag({ description: 'unknown and away look alike to a visitor' }),
  trailers: flag({ description: 'always by the way that keeps trailers' }),
  labels: labels('an agent that has all of these may serve it too'),
  origin: orNull(text({ pattern: ORIGIN, maxLength: 2_048, description: 'the target to suggest to an agent' })),
  policy,
}
const hosts = list(text({ maxLength: 255 }), { minItems: 1, maxItems: HOSTS_MAX_COUNT, uniqueItems: true, description: 'hostnames; a wildcard is +.example.com' })
export const service = named('Service', record({ name: serviceName, hosts, ...serviceFields, created_at: orNull(moment) }))
export const servicePut = named('ServicePut', record({ hosts }, serviceFields))
export const serviceChange = named('ServiceChange', record({}, { hosts, ...serviceFields }))

const APPLIED_MAX_COUNT = 100_000
export const yesNo = (description: string) => choice(['true', 'false'], { description })
export const applyQuery = { dry_run: yesNo('only answers what it would do'), prune: yesNo('what the body does not name goes') }
export const applyBody = named('Wanted', record({}, {
  settings,
  services: mapOf(serviceName, servicePut, APPLIED_MAX_COUNT, 'by name; what is not said is as if it were new'),
  agents: mapOf(agentId, named('AgentPut', record({}, { ...agentFields, url })), APPLIED_MAX_COUNT, 'by id, likewise; url is for those that are made'),
}))
const asJson = orNull(text({ description: 'as JSON; null: not set' }))
export const applied = named('Applied', record({
  changes: list(record(
    { action: choice(['created', 'changed', 'removed']), resource: text({ description: 'as services/shop' }), fields: list(record({ field: text(), before: asJson, after: asJson })) },
    { join: text({ description: 'of an agent that is new: what it is started with, shown this once' }) },
  )),
}))

export const credentialCreate = named('CredentialCreate', record({}, {
  user: text({ pattern: '^[A-Za-z0-9._@-]+$', maxLength: 64, description: 'for Basic: the name that goes with the password. Without it a token is made' }),
  field: text({ pattern: TOKEN_FIELD, maxLength: 128, description: 'the request field that holds the token, instead of Authorization: Bearer' }),
}))
export const credentialWithSecret = named('CredentialWithSecret', record({
  secret: text({ description: 'the token, or name:password. Shown this once' }),
  sha256: text({ description: 'what the policy keeps of it' }),
}))

const channel = {
  kind: text(),
  round_trip_ms: orNull(quantity()),
  lanes: list(whole(0, 255)),
}
export const session = named('Session', record({
  id: sessionId,
  agent: agentId,
  instance: text({ description: 'random for each process of the agent' }),
  peer: text({ description: 'where its first channel came from' }),
  since: moment,
  age_s: quantity(),
  attached: flag({ description: 'false: it waits for another channel' }),
  services: list(serviceName, { description: 'what it serves now' }),
  streams: count('exchanges, and what agent and gateway say to each other'),
  exchanges: count('in flight'),
  sent_bytes: count('to the agent, by all channels that it ever had'),
  received_bytes: count('from the agent'),
  round_trip_ms: orNull(quantity()),
  channels: list(record({
    ...channel,
    peer: text(),
    worker: count('the nginx worker it came through; 0: none, or unknown'),
    age_s: quantity(),
    streams: count('of its lanes'),
    sent_bytes: count('to the agent, without what the transport puts around them'),
    received_bytes: count('from the agent'),
  })),
  unhealthy: list(serviceName, { description: 'of these the agent says that the origin is not well' }),
  refused: list(record({ what: text({ description: 'a service, or a setting' }), reason: text() }), { description: 'what of the gateway’s word the agent does not take' }),
  says: orNull(record({ channels: list(record({ ...channel, way: text() })), exchanges: count() })),
}))

export const exchange = named('Exchange', record({
  id: count(),
  at: moment,
  uuid: text({ description: 'the command uuid' }),
  service: text(),
  agent: orNull(text({ description: 'the last that it was sent to' })),
  method: text(),
  path: text({ description: 'without its query' }),
  status: orNull(whole(0, 999)),
  error: orNull(text({ description: 'the code of what went wrong' })),
  wait_ms: quantity({ description: 'until it was sent to an agent' }),
  head_ms: orNull(quantity({ description: 'until the head of the answer' })),
  total_ms: quantity(),
  sent_bytes: count('of the request’s body'),
  received_bytes: count('of the answer’s body'),
}))

export const historyEntry = named('HistoryEntry', record({
  id: count(),
  at: moment,
  kind: text(),
  subject: text({ description: 'the resource, as agents/web-1' }),
  who: text(),
  detail: anything('what belongs to the kind'),
}))

export const route = named('Route', record({ host: text(), prefix: text(), service: serviceName, state: choice(['up', 'unhealthy', 'away', 'off']) }))

export const SCOPES = ['read', 'agents', 'services', 'all'] as const
export type Scope = (typeof SCOPES)[number]
const tokenName = text({ pattern: '^[A-Za-z0-9][A-Za-z0-9._@ -]*$', maxLength: 64 })
const tokenFields = { name: tokenName, scopes: list(choice(SCOPES), { uniqueItems: true, minItems: 1 }) }
const tokenMembers = { id: tokenId, ...tokenFields, created_at: moment, expires_at: orNull(moment) }
export const token = named('Token', record(tokenMembers))
export const tokenCreate = named('TokenCreate', record(tokenFields, { expires_at: orNull(moment) }))
export const tokenWithSecret = named('TokenWithSecret', record({ ...tokenMembers, secret: text({ description: 'goes behind Authorization: Bearer. Shown this once' }) }))

export const health = record({ status: choice(['ok']), version: text() })
export const ready = named('Ready', record({ ready: flag(), waits_for: list(text()), exchanges: count(), sessions: count() }))

export const problem = named('Problem', record(
  { type: text(), title: text(), status: whole(400, 599), detail: text(), code: text({ description: 'stable' }) },
  { errors: list(record({ field: text(), reason: text() })) },
))

export const page = <S extends Schema>(items: S) => record({ items: list(items), next: orNull(text({ description: 'the cursor of the next page' })) })
/** The query of a list. Text: a query has nothing else. */
export const pageQuery = {
  limit: text({ pattern: '^[1-9][0-9]{0,3}$', description: `entries on a page, 100 unless told, ${String(PAGE_MAX_COUNT)} at most` }),
  after: text({ maxLength: 512, description: 'the cursor that the page before gave as next' }),
}

export type AgentSettings = TypeOf<typeof settings>
export type AgentShown = TypeOf<typeof agent>
export type ServiceShown = TypeOf<typeof service>
export type Wanted = TypeOf<typeof applyBody>
export type AppliedChange = TypeOf<typeof applied>['changes'][number]
export type SessionShown = TypeOf<typeof session>
export type ExchangeShown = TypeOf<typeof exchange>
export type HistoryShown = TypeOf<typeof historyEntry>
export type RouteShown = TypeOf<typeof route>
export type TokenShown = TypeOf<typeof token>

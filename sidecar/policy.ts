// What an operator may ask of a service's visitors and agents: one JSON schema, its type, and what a schema can't say (docs/policy.md).
import { createHash } from 'node:crypto'
import { isOurs } from './envelope.ts'
import { readRange } from './ranges.ts'
import type { Schema, TypeOf } from './schema-type.ts'

/** Both lists of source addresses together: njs compares each with the visitor's. */
export const RANGES_MAX_COUNT = 64
/** Fields that are added, or removed, in one direction. */
const FIELDS_MAX_COUNT = 32
/** As many as may be in use at once while they are changed one after the other. */
export const CREDENTIALS_MAX_COUNT = 32
/** Longer texts are a page: an origin's. */
const MAINTENANCE_TEXT_MAX_LENGTH = 500
const WEIGHT_MAX = 100
const WEIGHTS_MAX_COUNT = 1_000
/** 256 bits: nobody chooses or guesses it, so one round of SHA-256 is enough to store it by. */
const CREDENTIAL_BYTES = 32

const TOKEN_CHARACTERS = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
/** nginx drops names with anything else, unless it is told not to: a token there would never be seen. */
export const TOKEN_FIELD = '^[A-Za-z0-9-]+$'
const fieldName = { type: 'string', pattern: TOKEN_CHARACTERS, maxLength: 128 } as const
const range = { type: 'string', pattern: '^[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?$', maxLength: 43, description: 'An address, or a range in CIDR notation.' } as const
const ranges = { type: 'array', items: range, maxItems: RANGES_MAX_COUNT, uniqueItems: true } as const
const hashes = {
  type: 'array',
  items: { type: 'string', pattern: '^[0-9a-f]{64}$' },
  minItems: 1,
  maxItems: CREDENTIALS_MAX_COUNT,
  uniqueItems: true,
  description: 'SHA-256 of what the gateway generated, in lower-case hexadecimal.',
} as const
const bucket = {
  type: 'object',
  properties: {
    per_second: { type: 'number', minimum: 0.001, maximum: 1_000_000 },
    burst: { type: 'integer', minimum: 1, maximum: 1_000_000, description: 'Requests that may come at once.' },
  },
  required: ['per_second', 'burst'],
  additionalProperties: false,
} as const
const fieldChanges = {
  type: 'object',
  properties: {
    remove: { type: 'array', items: fieldName, maxItems: FIELDS_MAX_COUNT, uniqueItems: true },
    add: {
      type: 'array',
      items: {
        type: 'object',
        properties: { name: fieldName, value: { type: 'string', pattern: '^(?:[\\x21-\\x7e](?:[\\t\\x20-\\x7e]*[\\x21-\\x7e])?)?$', maxLength: 1_024 } },
        required: ['name', 'value'],
        additionalProperties: false,
      },
      maxItems: FIELDS_MAX_COUNT,
    },
  },
  additionalProperties: false,
  description: 'What is removed is removed first: removing and adding a name sets it.',
} as const

export const healthSchema = {
  type: 'object',
  properties: {
    kind: { type: 'string', enum: ['http', 'tcp'] },
    path: { type: 'string', pattern: '^/[\\x21-\\x7e]*$', maxLength: 1_024, description: 'For http: a GET of it is to be answered with a status of 200 to 399.' },
    interval_ms: { type: 'integer', minimum: 100, maximum: 3_600_000 },
    timeout_ms: { type: 'integer', minimum: 50, maximum: 60_000 },
    unhealthy_after: { type: 'integer', minimum: 1, maximum: 100, description: 'Checks in a row that fail.' },
    healthy_after: { type: 'integer', minimum: 1, maximum: 100, description: 'Checks in a row that succeed.' },
  },
  required: ['kind'],
  additionalProperties: false,
} as const satisfies Schema

export const policySchema = {
  type: 'object',
  properties: {
    state: { type: 'string', enum: ['on', 'off'] },
    maintenance: {
      type: 'object',
      properties: {
        text: { type: 'string', pattern: '^[^\\x00-\\x1f\\x7f]*$', maxLength: MAINTENANCE_TEXT_MAX_LENGTH },
        retry_after_s: { type: 'integer', minimum: 1, maximum: 2_592_000 },
      },
      additionalProperties: false,
    },
    https_redirect: { type: 'integer', enum: [301, 308] },
    methods: { type: 'array', items: { type: 'string', pattern: '^[A-Z][A-Z-]{0,31}$' }, minItems: 1, maxItems: 32, uniqueItems: true },
    sources: { type: 'object', properties: { allow: ranges, deny: ranges }, additionalProperties: false },
    token: {
      type: 'object',
      properties: { field: { type: 'string', pattern: TOKEN_FIELD, maxLength: 128, description: 'The request field that holds it; without this it is `Authorization: Bearer`.' }, sha256: hashes },
      required: ['sha256'],
      additionalProperties: false,
    },
    basic: { type: 'object', properties: { sha256: hashes }, required: ['sha256'], additionalProperties: false },
    body_max_bytes: { type: 'integer', minimum: 0, maximum: 1_000_000_000_000_000 },
    rate: { type: 'object', properties: { service: bucket, source: bucket }, additionalProperties: false },
    request_fields: fieldChanges,
    response_fields: fieldChanges,
    sticky: { type: 'boolean', description: 'A visitor stays with one agent, by a cookie.' },
    weights: {
      type: 'object',
      additionalProperties: { type: 'integer', minimum: 1, maximum: WEIGHT_MAX },
      maxProperties: WEIGHTS_MAX_COUNT,
      description: 'By agent id: what share each is to have. 1 if it is not said.',
    },
    health: healthSchema,
  },
  additionalProperties: false,
} as const satisfies Schema

export type ServicePolicy = TypeOf<typeof policySchema>
export type FieldChanges = NonNullable<ServicePolicy['request_fields']>
export type Bucket = TypeOf<typeof bucket>
export type Health = TypeOf<typeof healthSchema>

/** A place in the policy, such as `sources.allow`, and what is wrong with it. */
export interface PolicyFault {
  readonly field: string
  readonly reason: string
}

/** Says what belongs to one hop, or frames a body (RFC 9110 §7.6.1, RFC 9112 §6), or is said by nginx and the gateway themselves. */
const NOT_TO_CHANGE: ReadonlySet<string> = new Set([
  'connection', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings', 'content-length', 'host', 'expect',
  'proxy-status', 'via',
])
/** The origin's cookies and credentials travel in these: what a token's field takes from it, it would miss. */
const NO_TOKEN_FIELD: ReadonlySet<string> = new Set(['authorization', 'cookie', 'content-type', 'accept', ...NOT_TO_CHANGE])

/** What is wrong with a policy that its schema takes. */
export function policyFaults(policy: ServicePolicy): PolicyFault[] {
  return [...sourceFaults(policy), ...tokenFaults(policy), ...changeFaults('request_fields', policy.request_fields), ...changeFaults('response_fields', policy.response_fields)]
}

function sourceFaults({ sources }: ServicePolicy): PolicyFault[] {
  const faults: PolicyFault[] = []
  if (sources === undefined) return faults
  for (const list of ['allow', 'deny'] as const) {
    for (const text of sources[list] ?? []) {
      const read = readRange(text)
      if ('reason' in read) faults.push({ field: `sources.${list}`, reason: `${text} ${read.reason}` })
    }
  }
  if ((sources.allow?.length ?? 0) + (sources.deny?.length ?? 0) > RANGES_MAX_COUNT) faults.push({ field: 'sources', reason: `more than ${String(RANGES_MAX_COUNT)} ranges` })
  return faults
}

function tokenFaults({ token }: ServicePolicy): PolicyFault[] {
  const field = token?.field?.toLowerCase()
  if (field === undefined || !(NO_TOKEN_FIELD.has(field) || isOurs(field))) return []
  return [{ field: 'token.field', reason: `${field} has a meaning of its own` }]
}

function changeFaults(field: string, changes: FieldChanges | undefined): PolicyFault[] {
  const names = [...(changes?.remove ?? []).map((name) => ['remove', name] as const), ...(changes?.add ?? []).map(({ name }) => ['add', name] as const)]
  return names
    .filter(([, name]) => NOT_TO_CHANGE.has(name.toLowerCase()) || isOurs(name.toLowerCase()))
    .map(([list, name]) => ({ field: `${field}.${list}`, reason: `${name} belongs to one hop, frames the body, or is Postern's own` }))
}

/** What is shown once, and what is kept of it. */
export interface Credential {
  readonly secret: string
  readonly sha256: string
}

/** A token for visitors. `random` gives so many random bytes. */
export function makeToken(random: (bytes: number) => Buffer): Credential {
  return credential(random(CREDENTIAL_BYTES).toString('base64url'))
}

/** A name and a password for visitors, as `name:password`. */
export function makeBasic(name: string, random: (bytes: number) => Buffer): Credential {
  return credential(`${name}:${random(CREDENTIAL_BYTES).toString('base64url')}`)
}

const credential = (secret: string): Credential => ({ secret, sha256: createHash('sha256').update(secret).digest('hex') })

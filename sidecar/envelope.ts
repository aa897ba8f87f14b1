// What nginx says about a visitor (SPEC §16), and the fields of the request that go on to the origin.
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { fieldName } from '../protocol/field-name.ts'
import { HEAD_MAX_FIELDS } from '../protocol/limits.ts'
import type { Request } from './carry.ts'
import type { PlainRoutes } from './plain-routes.ts'

export interface Envelope {
  readonly uuid: string
  /** '' if nginx did not have to know it: the one that the authority's plain route leads to. */
  readonly service: string
  readonly address: string
  readonly port: string
  readonly scheme: string
  readonly authority: string
  readonly worker: number
  /** What the visitor's Connection field named, '' if nothing. */
  readonly connection: string
  /** nginx knows 103 (postern-modern.conf): older ones take it for the answer. */
  readonly earlyHints: boolean
}

const ENVELOPE = /^1;([0-9a-f]{32});((?:[a-z0-9][a-z0-9-]{0,62})?);([^;]*);([0-9]{0,5});(https?);([^;]+);([0-9]{1,10});([^;]*)(;103)?$/
const ENCODED = /^(?:[A-Za-z0-9._~:[\]-]|%[0-9A-Fa-f]{2})*$/
// What Forwarded can quote: an address, a hostname, `unix:`. Neither this nor an authority holds what has to be encoded.
const ADDRESS = /^[0-9A-Za-z.:]*$/
const AUTHORITY = /^(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/
const CONNECTION = /^[!#$%&'*+.^_`|~0-9A-Za-z, \t-]*$/

/** Undefined if it is not exactly what njs writes. */
export function readEnvelope(value: string): Envelope | undefined {
  const parts = ENVELOPE.exec(value)
  if (parts === null) return undefined
  const address = ADDRESS.test(parts[3]!) ? parts[3]! : decoded(parts[3]!, ADDRESS)
  const authority = AUTHORITY.test(parts[6]!) ? parts[6]! : decoded(parts[6]!, AUTHORITY)
  const connection = parts[8] === '' ? '' : decoded(parts[8]!, CONNECTION)
  if (address === undefined || authority === undefined || connection === undefined) return undefined
  const earlyHints = parts[9] !== undefined
  return { uuid: parts[1]!, service: parts[2]!, address, port: parts[4]!, scheme: parts[5]!, authority, worker: Number(parts[7]), connection, earlyHints }
}

function decoded(value: string, pattern: RegExp): string | undefined {
  if (!ENCODED.test(value)) return undefined
  const plain = value.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
  return pattern.test(plain) ? plain : undefined
}

/** RFC 9110 §7.6.1 and what is said to one hop only. Expect was answered by nginx, Host is the authority. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings', 'proxy-authorization', 'expect', 'host',
])
/** Said anew from the envelope: a visitor's own would be believed by origins. */
const FORWARDING: ReadonlySet<string> = new Set(['forwarded', 'x-real-ip'])

/** `fields` as they came from nginx, without pseudo-fields. */
export function wrapRequest(envelope: Envelope, plain: PlainRoutes, method: string, path: string, upgrade: string, fields: readonly string[]): Request | ErrorCode {
  const { scheme, authority } = envelope
  const service = envelope.service === '' ? plain.serviceOf(authority) : envelope.service
  if (service === undefined) return errors.no_route_table
  const named = envelope.connection === '' ? undefined : new Set(envelope.connection.toLowerCase().split(/[, \t]+/))
  const carried = [':method', method, ':scheme', scheme, ':authority', authority, ':path', path]
  if (upgrade !== '') carried.push(':protocol', upgrade)
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    const lower = fieldName(name)
    if (HOP_BY_HOP.has(lower) || FORWARDING.has(lower) || isOurs(lower) || isForwarded(lower)) continue
    // Content-Length frames the body: naming it in Connection does not take it away.
    if (named !== undefined && named.has(lower) && lower !== 'content-length') continue
    carried.push(name, fields[i + 1]!)
  }
  forward(carried, envelope)
  if (carried.length > 2 * HEAD_MAX_FIELDS) return errors.head_too_large
  return { uuid: envelope.uuid, service, fields: carried, address: envelope.address, worker: envelope.worker }
}

/** Is it `Postern`, or does it begin with `postern-` or `postern_`? */
export function isOurs(lower: string): boolean {
  if (!lower.startsWith('postern')) return false
  const next = lower.charCodeAt(7)
  return lower.length === 7 || next === 0x2d || next === 0x5f
}

// With underscores too: origins that speak CGI can't tell the two apart.
const isForwarded = (lower: string): boolean => lower.charCodeAt(0) === 0x78 && (/^x[-_]forwarded([-_]|$)/.test(lower) || lower === 'x_real_ip')

function forward(carried: string[], { address, scheme, authority }: Envelope): void {
  const colon = authority.lastIndexOf(':')
  const port = colon > authority.lastIndexOf(']') ? authority.slice(colon + 1) : scheme === 'https' ? '443' : '80'
  const isUnix = address === '' || address.startsWith('unix:')
  const node = isUnix ? 'unknown' : address.includes(':') ? `"[${address}]"` : address
  if (!isUnix) carried.push('X-Forwarded-For', address, 'X-Real-IP', address)
  carried.push('X-Forwarded-Proto', scheme, 'X-Forwarded-Host', authority, 'X-Forwarded-Port', port)
  carried.push('Forwarded', `for=${node};host="${authority}";proto=${scheme}`, 'Via', '1.1 postern')
}

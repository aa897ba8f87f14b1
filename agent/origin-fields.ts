// The fields of a request as the origin is to see them, and those of its answer as the gateway is: checked again, hop-by-hop taken out (RFC 9110 §7.6.1).
import { errors, PosternError } from '../protocol/errors.ts'
import { fieldName, TOKEN } from '../protocol/field-name.ts'
import { HEAD_MAX_FIELDS } from '../protocol/limits.ts'
import { type Fields, NO_FIELDS } from '../protocol/stream.ts'

/** A request, ready for the origin. */
export interface OriginRequest {
  readonly method: string
  readonly path: string
  /** name, value, …; `host` first, no hop-by-hop field. */
  readonly headers: string[]
  /** What Content-Length says; undefined if there is none. */
  readonly length: number | undefined
  /** The protocols that the visitor asks to go over to. */
  readonly upgrade: string | undefined
}

/** Everything but control bytes, HTAB allowed; RFC 9110 §5.5 with obs-text. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const PATH = /^\/[\x21-\x7e\x80-\xff]*$/
const AUTHORITY = /^[\x21-\x7e]*$/
const LENGTH = /^\d{1,15}$/

/** Those that an origin is asked by; what `:scheme` says stands in the fields that tell of the way. */
const PSEUDO: readonly string[] = [':method', ':path', ':authority', ':protocol']
const HOP_BY_HOP: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade', 'http2-settings'])
/**
 * Never in a request, for these reasons: `host` comes from :authority; `expect` was answered by the endpoint, which reads the body anyway;
 * `trailer` announces what undici does not send; `proxy-authorization` was meant for the first proxy, which is Postern.
 */
const NOT_FOR_ORIGIN: ReadonlySet<string> = new Set([...HOP_BY_HOP, 'host', 'expect', 'trailer', 'proxy-authorization'])
/** Fields that would frame or route (RFC 9110 §6.5.1). */
const NOT_IN_TRAILERS: ReadonlySet<string> = new Set([...HOP_BY_HOP, 'host', 'content-length', 'content-encoding', 'content-type', 'content-range', 'trailer', 'set-cookie', 'authorization'])

const bad = (detail: string): PosternError => new PosternError(errors.bad_request, detail)

/** Reads the head of an exchange. Throws `bad_request`: the gateway checks the same, so that nothing here is ever a surprise unless it is hostile. */
export function originRequest(fields: Fields, hostField: string | undefined): OriginRequest {
  let at = 0
  const said = new Array<string | undefined>(PSEUDO.length)
  for (; at < fields.length && fields[at]!.startsWith(':'); at += 2) {
    for (let before = 0; before < at; before += 2) if (fields[before] === fields[at]) throw bad('a pseudo-field comes twice')
    const which = PSEUDO.indexOf(fields[at]!)
    if (which !== -1) said[which] = fields[at + 1]!
  }
  const [method, path, authority = '', protocol] = said
  if (method === undefined || !TOKEN.test(method) || method === 'CONNECT') throw bad('the method is no method')
  if (path === undefined || !PATH.test(path)) throw bad('the path is no path')
  if (!AUTHORITY.test(authority)) throw bad('the authority is no authority')
  if (protocol !== undefined && !VALUE.test(protocol)) throw bad('the protocol is no protocol')
  const named = connectionNames(fields, at)
  const headers = ['host', hostField ?? authority]
  let length: number | undefined
  for (; at < fields.length; at += 2) {
    const name = fields[at]!
    const value = fields[at + 1]!
    const lower = fieldName(name)
    if (lower === '') throw bad('a field name is no token')
    if (!VALUE.test(value)) throw bad(`the value of ${name} holds control bytes`)
    if (lower === 'content-length') {
      if (length !== undefined || !LENGTH.test(value)) throw bad('Content-Length is no single number')
      length = Number(value)
    } else if (NOT_FOR_ORIGIN.has(lower) || named?.has(lower) === true) continue
    headers.push(name, value)
  }
  // A connection is never turned into HTTP/2: the origin would speak what nobody checks. A request with a body stays a request.
  const upgrade = protocol !== undefined && protocol.toLowerCase() !== 'h2c' && (length ?? 0) === 0 ? protocol : undefined
  return { method, path, headers, length, upgrade }
}

/** What a `Connection` field names is for one hop. In requests there is hardly ever one: the gateway took it out. Keep-Alive is for one hop in any case. */
function connectionNames(fields: Fields, from: number): Set<string> | undefined {
  let names: Set<string> | undefined
  for (let i = from; i < fields.length; i += 2) {
    if (fields[i]!.length !== 10 || fields[i]!.toLowerCase() !== 'connection' || fields[i + 1] === 'keep-alive') continue
    names ??= new Set()
    for (const name of fields[i + 1]!.split(',')) names.add(name.trim().toLowerCase())
  }
  return names
}

/** What undici gives of fields, as text. */
export const textOf = (raw: readonly Buffer[]): string[] => raw.map((part) => part.toString('latin1'))

/** An answer's head from its fields as they came, in order and case, with :status first. Throws `origin_head_too_large` and `origin_protocol`. */
export function answerFields(status: number, came: readonly string[]): string[] {
  if (came.length / 2 >= HEAD_MAX_FIELDS) throw new PosternError(errors.origin_head_too_large, `${String(came.length / 2)} fields`)
  const named = connectionNames(came, 0)
  const fields = [':status', String(status)]
  for (let i = 0; i < came.length; i += 2) {
    const name = came[i]!
    const lower = fieldName(name)
    // The answers that are about a change of protocol name it there.
    if (lower === 'upgrade' && (status === 101 || status === 426)) fields.push(name, came[i + 1]!)
    else if (!HOP_BY_HOP.has(lower) && named?.has(lower) !== true) push(fields, name, lower, came[i + 1]!)
  }
  return fields
}

export function answerTrailers(came: readonly string[]): Fields {
  if (came.length === 0) return NO_FIELDS
  const fields: string[] = []
  for (let i = 0; i < came.length && fields.length < HEAD_MAX_FIELDS * 2; i += 2) {
    const lower = fieldName(came[i]!)
    if (!NOT_IN_TRAILERS.has(lower)) push(fields, came[i]!, lower, came[i + 1]!)
  }
  return fields
}

function push(fields: string[], name: string, lower: string, value: string): void {
  if (lower === '' || !VALUE.test(value)) throw new PosternError(errors.origin_protocol, 'a field of the answer is none')
  fields.push(name, value)
}

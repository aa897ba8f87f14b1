// Checks an agent's answer head and keeps only what is the origin's to say: all framing is the gateway's own.
import { fieldName } from '../protocol/field-name.ts'
import type { Fields } from '../protocol/stream.ts'
import { isOurs } from './envelope.ts'
import { CONTROL, LENGTH } from './request-head.ts'

export interface ResponseHead {
  readonly status: number
  /** Without pseudo-fields, hop-by-hop fields and Content-Length. */
  readonly fields: readonly string[]
  /** Content-Length as the origin said it, -1 if it did not. */
  readonly length: number
  /** What a 101 switches to, '' if it does not say. */
  readonly upgrade: string
}

const HOP_BY_HOP: ReadonlySet<string> = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings'])

/** The head, or for our log what is wrong with it. 101 is right only if `upgrades`. */
export function checkResponseHead(head: Fields, upgrades: boolean): ResponseHead | string {
  if (head[0] !== ':status' || !/^(?:[2-5][0-9][0-9]|101)$/.test(head[1]!)) return 'no final status'
  const status = Number(head[1])
  if (status === 101 && !upgrades) return '101 unasked'
  const fields: string[] = []
  let length = -1
  let upgrade = ''
  let named: Set<string> | undefined
  for (let i = 2; i < head.length; i += 2) {
    const name = head[i]!
    const value = head[i + 1]!
    const lower = fieldName(name)
    if (lower === '' || CONTROL.test(value)) return 'a field that is none'
    if (lower === 'content-length') {
      if (length !== -1 || !LENGTH.test(value)) return 'a doubtful Content-Length'
      length = Number(value)
    } else if (lower === 'connection') {
      named ??= new Set()
      for (const each of value.toLowerCase().split(/[, \t]+/)) named.add(each)
    } else if (lower === 'upgrade') upgrade = value
    else if (!HOP_BY_HOP.has(lower) && !isOurs(lower)) fields.push(name, value)
  }
  return { status, fields: named === undefined ? fields : without(fields, named), length, upgrade }
}

/** Trailers as they may be passed on: nothing that frames, routes or is said to one hop. Undefined if one is no field at all. */
export function checkTrailers(trailers: Fields): Fields | undefined {
  const fields: string[] = []
  for (let i = 0; i < trailers.length; i += 2) {
    const name = trailers[i]!
    const lower = fieldName(name)
    if (lower === '' || CONTROL.test(trailers[i + 1]!)) return undefined
    if (!HOP_BY_HOP.has(lower) && !isOurs(lower) && lower !== 'content-length' && lower !== 'host') fields.push(name, trailers[i + 1]!)
  }
  return fields
}

/** Does an answer of this status to this method have no body, whatever its head says (RFC 9112 §6.3)? */
export function isBodiless(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304
}

function without(fields: readonly string[], named: ReadonlySet<string>): string[] {
  const kept: string[] = []
  for (let i = 0; i < fields.length; i += 2) if (!named.has(fields[i]!.toLowerCase())) kept.push(fields[i]!, fields[i + 1]!)
  return kept
}

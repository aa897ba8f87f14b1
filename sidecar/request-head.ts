// Reads the head of an HTTP/1.1 request as nginx sends it, and refuses whatever could be read in two ways.
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { fieldName, TOKEN } from '../protocol/field-name.ts'
import { fieldValue } from '../protocol/field-value.ts'
import { HEAD_MAX_BYTES, HEAD_MAX_FIELDS } from '../protocol/limits.ts'

export interface RequestHead {
  readonly method: string
  /** In origin-form, byte for byte as it came. */
  readonly target: string
  /** Name, value, name, value, … as they came. */
  readonly fields: readonly string[]
  /** Content-Length, 0 without one. */
  readonly bodyBytes: number
  /** What the request offers to switch to, '' if it does not. */
  readonly upgrade: string
  /** The field `Postern`, '' if there is none. */
  readonly envelope: string
}

/** No field value holds these: control bytes but HTAB (RFC 9110 §5.5). */
export const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/
// njs lets through what begins with a slash and has no fragment; the rest is nginx's.
const TARGET = /^\/[\x21\x22\x24-\x7e\x80-\xff]*$/
/** Exact in a double: nobody sends a petabyte in one body. */
export const LENGTH = /^[0-9]{1,15}$/
const PROTOCOLS = /^[!#$%&'*+.^_`|~0-9A-Za-z/-]+([ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z/-]+)*$/
const UPGRADES = /(^|[, \t])upgrade([, \t]|$)/i

/** `text` is the head as latin1, without the empty line that ends it. */
export function readRequestHead(text: string): RequestHead | ErrorCode {
  if (text.length > HEAD_MAX_BYTES) return errors.head_too_large
  let end = text.indexOf('\r\n')
  if (end === -1) end = text.length
  const first = text.indexOf(' ')
  const method = text.slice(0, first)
  const target = text.slice(first + 1, end - 9)
  if (first < 1 || !text.startsWith(' HTTP/1.1', end - 9) || !TOKEN.test(method) || method === 'CONNECT' || !TARGET.test(target)) return errors.bad_request

  const fields: string[] = []
  let length: string | undefined
  let hosts = 0
  let connection = ''
  let upgrade = ''
  let envelope: string | undefined
  for (let at = end + 2; at < text.length; at = end + 2) {
    end = text.indexOf('\r\n', at)
    if (end === -1) end = text.length
    const colon = text.indexOf(':', at)
    if (colon === -1 || colon >= end) return errors.bad_request
    const name = text.slice(at, colon)
    const value = fieldValue(text, colon + 1, end)
    // A folded line begins with a blank, which is no name; a bare CR or LF is a control byte.
    const lower = fieldName(name)
    if (lower === '' || CONTROL.test(value)) return errors.bad_request
    if (fields.length === 2 * HEAD_MAX_FIELDS) return errors.head_too_large
    fields.push(name, value)
    switch (lower) {
      case 'content-length':
        if (length !== undefined || !LENGTH.test(value)) return errors.bad_request
        length = value
        break
      case 'transfer-encoding':
        // Bodies of unknown length come by the other door.
        return errors.bad_request
      case 'host':
        hosts++
        break
      case 'connection':
        connection = connection === '' ? value : `${connection},${value}`
        break
      case 'upgrade':
        upgrade = upgrade === '' ? value : `${upgrade}, ${value}`
        break
      case 'postern':
        if (envelope !== undefined) return errors.bad_request
        envelope = value
        break
    }
  }
  if (hosts !== 1) return errors.bad_request
  const bodyBytes = length === undefined ? 0 : Number(length)
  // An upgrade may be ignored: so are h2c, which would leave HTTP/1.1, and one behind a body, whose bytes could be taken for the new protocol's.
  const upgrades = upgrade !== '' && UPGRADES.test(connection) && bodyBytes === 0 && PROTOCOLS.test(upgrade) && !/h2c/i.test(upgrade)
  return { method, target, fields, bodyBytes, upgrade: upgrades ? upgrade : '', envelope: envelope ?? '' }
}

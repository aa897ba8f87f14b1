// Which row of the error table fits what went wrong with an origin (SPEC §12).
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { RESET_CODE } from './origin-socket.ts'

const REFUSED = new Set(['ECONNREFUSED', 'ENOENT', 'EACCES', 'EPERM', 'ENOTSOCK'])
const UNKNOWN = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA'])
const TIMEOUT = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'UND_ERR_CONNECT_TIMEOUT'])
/** OpenSSL's verification results, and Node's names for the rest of TLS. */
const TLS = /^(CERT_|CRL_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|EPROTO$)/
const BROKEN = new Set([RESET_CODE, 'ECONNRESET', 'EPIPE', 'ECONNABORTED'])

export function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/** Before anything was sent: why there is no connection. */
export function blameConnect(error: Error): ErrorCode {
  const code = codeOf(error)
  if (REFUSED.has(code)) return errors.origin_refused
  if (UNKNOWN.has(code)) return errors.origin_unknown
  if (TIMEOUT.has(code)) return errors.origin_timeout
  if (TLS.test(code)) return errors.origin_tls
  if (code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_NOT_SUPPORTED') return errors.bad_request
  return errors.origin_reset
}

/** After the request was begun: what the origin did. `answered`: its final head was there. */
export function blameAnswer(error: Error, answered: boolean): ErrorCode {
  const code = codeOf(error)
  if (BROKEN.has(code)) return errors.origin_reset
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return errors.origin_head_too_large
  // undici has one code for a connection that was closed and for heads it can not take.
  const closed = code === 'UND_ERR_SOCKET' && !error.message.startsWith('bad ')
  if (closed) return answered ? errors.origin_incomplete : errors.origin_reset
  if (TIMEOUT.has(code)) return errors.origin_reset
  return answered ? errors.origin_incomplete : errors.origin_protocol
}

// The one table of error codes: who is at fault, what the visitor gets, whether it may be tried again (SPEC §12).

/** Whose fault an error is. `nobody`: somebody left, which is their right. */
export type Fault = 'nobody' | 'visitor' | 'gateway' | 'agent' | 'origin'

/** May the exchange be sent again to another agent: never, if its method is idempotent, or always (nothing was begun). */
export type Again = 'never' | 'idempotent' | 'always'

/** Methods of which a second time does no more than one (RFC 9110 §9.2.2). */
export const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

export interface ErrorCode {
  /** The number on the wire (RESET, STOP, CLOSE). */
  readonly number: number
  readonly name: string
  readonly fault: Fault
  /** The visitor's status code if no head was sent yet; 0 where no visitor ever sees it. */
  readonly status: number
  /** The `error` parameter of Proxy-Status (RFC 9209 §2.3). */
  readonly proxyStatus: string
  readonly again: Again
  /** One sentence for a visitor: says what happened, tells nothing of the inside. */
  readonly says: string
}

function row(number: number, name: string, fault: Fault, status: number, proxyStatus: string, again: Again, says: string): ErrorCode {
  return { number, name, fault, status, proxyStatus, again, says }
}

export const errors = {
  cancelled: row(0x00, 'cancelled', 'nobody', 0, 'connection_terminated', 'never', 'The visitor left before the answer was complete.'),
  refused: row(0x01, 'refused', 'agent', 503, 'connection_limit_reached', 'always', 'The agent did not take the request. Try again in a moment.'),
  draining: row(0x02, 'draining', 'agent', 503, 'destination_unavailable', 'always', 'The agent is leaving service. Try again in a moment.'),
  not_served: row(0x03, 'not_served', 'agent', 502, 'destination_unavailable', 'always', 'The agent does not serve this service.'),
  agent_lost: row(0x04, 'agent_lost', 'agent', 502, 'connection_terminated', 'idempotent', 'The connection to the service broke while it was answering.'),
  agent_protocol: row(0x05, 'agent_protocol', 'agent', 502, 'http_protocol_error', 'never', 'The agent sent an answer that breaks the rules.'),
  agent_timeout: row(0x06, 'agent_timeout', 'agent', 504, 'http_response_timeout', 'never', 'The service did not begin to answer in time.'),
  origin_refused: row(0x10, 'origin_refused', 'origin', 502, 'connection_refused', 'always', 'The service behind the agent does not accept connections.'),
  origin_unknown: row(0x11, 'origin_unknown', 'origin', 502, 'dns_error', 'always', 'The service behind the agent has no address.'),
  origin_timeout: row(0x12, 'origin_timeout', 'origin', 504, 'connection_timeout', 'always', 'The service behind the agent could not be reached in time.'),
  origin_tls: row(0x13, 'origin_tls', 'origin', 502, 'tls_certificate_error', 'always', 'The service behind the agent shows a certificate that is not trusted.'),
  origin_reset: row(0x14, 'origin_reset', 'origin', 502, 'connection_terminated', 'idempotent', 'The service behind the agent broke the connection.'),
  origin_protocol: row(0x15, 'origin_protocol', 'origin', 502, 'http_protocol_error', 'never', 'The service behind the agent answered with something that is not HTTP.'),
  origin_head_too_large: row(0x16, 'origin_head_too_large', 'origin', 502, 'http_response_header_section_size', 'never', 'The answer of the service has too large a head.'),
  origin_incomplete: row(0x17, 'origin_incomplete', 'origin', 502, 'http_response_incomplete', 'never', 'The answer of the service ended too early.'),
  origin_unhealthy: row(0x18, 'origin_unhealthy', 'origin', 503, 'destination_unavailable', 'always', 'The service is known, but it is not well at the moment.'),
  bad_request: row(0x20, 'bad_request', 'visitor', 400, 'http_request_error', 'never', 'The request breaks the rules of HTTP.'),
  head_too_large: row(0x21, 'head_too_large', 'visitor', 431, 'http_request_error', 'never', 'The head of the request is too large.'),
  body_incomplete: row(0x22, 'body_incomplete', 'visitor', 400, 'http_request_error', 'never', 'The body of the request ended too early.'),
  no_service: row(0x30, 'no_service', 'gateway', 404, 'destination_not_found', 'never', 'There is no such service here.'),
  service_away: row(0x31, 'service_away', 'agent', 503, 'destination_unavailable', 'always', 'The service is known, but nobody serves it at the moment.'),
  gateway_full: row(0x32, 'gateway_full', 'gateway', 503, 'connection_limit_reached', 'always', 'The gateway holds as much as it may. Try again in a moment.'),
  gateway_leaving: row(0x33, 'gateway_leaving', 'gateway', 503, 'destination_unavailable', 'always', 'The gateway is leaving service. Try again in a moment.'),
  gateway_fault: row(0x34, 'gateway_fault', 'gateway', 500, 'proxy_internal_error', 'never', 'The gateway made a mistake. It is in its log.'),
  no_route_table: row(0x35, 'no_route_table', 'gateway', 503, 'proxy_configuration_error', 'never', 'The gateway has not published its services yet. Try again in a moment.'),
  gateway_away: row(0x36, 'gateway_away', 'gateway', 502, 'destination_unavailable', 'never', 'The gateway can not be reached. Try again in a moment.'),
  gateway_slow: row(0x37, 'gateway_slow', 'gateway', 504, 'http_response_timeout', 'never', 'The gateway did not answer in time.'),
  service_off: row(0x38, 'service_off', 'gateway', 503, 'destination_unavailable', 'never', 'The service is switched off.'),
  maintenance: row(0x39, 'maintenance', 'gateway', 503, 'destination_unavailable', 'never', 'The service is being worked on.'),
  unauthenticated: row(0x40, 'unauthenticated', 'agent', 0, 'connection_refused', 'never', 'The agent id or its secret is not right.'),
  unknown_session: row(0x41, 'unknown_session', 'agent', 0, 'connection_refused', 'never', 'The session is not known here any more: log in again.'),
  stale_attach: row(0x42, 'stale_attach', 'agent', 0, 'connection_refused', 'never', 'The lane has been attached elsewhere since.'),
  unsupported_version: row(0x43, 'unsupported_version', 'agent', 0, 'connection_refused', 'never', 'The two ends share no version of the protocol.'),
  policy_mismatch: row(0x44, 'policy_mismatch', 'agent', 0, 'connection_refused', 'never', 'The two ends do not agree whether payload is sealed.'),
  protocol_error: row(0x45, 'protocol_error', 'agent', 502, 'http_protocol_error', 'never', 'The peer broke the rules of the wire.'),
  channel_silent: row(0x46, 'channel_silent', 'nobody', 0, 'connection_timeout', 'never', 'Nothing came over the channel for too long.'),
  replaced: row(0x47, 'replaced', 'nobody', 0, 'connection_terminated', 'never', 'The same instance logged in again.'),
  revoked: row(0x48, 'revoked', 'agent', 0, 'connection_refused', 'never', 'The agent may not come in any more.'),
  handshake_timeout: row(0x49, 'handshake_timeout', 'agent', 0, 'connection_timeout', 'never', 'The handshake took too long.'),
  gateway_busy: row(0x4a, 'gateway_busy', 'gateway', 0, 'connection_limit_reached', 'never', 'Too many agents are logging in. Try again in a moment.'),
  disconnected: row(0x4b, 'disconnected', 'agent', 502, 'connection_terminated', 'idempotent', 'The agent was disconnected. Try again in a moment.'),
  source_denied: row(0x50, 'source_denied', 'visitor', 403, 'http_request_denied', 'never', 'The service is not for visitors from this address.'),
  https_only: row(0x51, 'https_only', 'visitor', 308, 'http_request_denied', 'never', 'The service is served over https only.'),
  method_denied: row(0x52, 'method_denied', 'visitor', 405, 'http_request_denied', 'never', 'The service does not take this method.'),
  credential_wrong: row(0x53, 'credential_wrong', 'visitor', 401, 'http_request_denied', 'never', 'The service asks for a credential, and the request has none that is right.'),
  body_too_large: row(0x54, 'body_too_large', 'visitor', 413, 'http_request_denied', 'never', 'The body of the request is larger than the service takes.'),
  rate_exceeded: row(0x55, 'rate_exceeded', 'visitor', 429, 'http_request_denied', 'never', 'Too many requests came in too short a time. Try again in a moment.'),
} as const satisfies Record<string, ErrorCode>

const byNumber = new Map<number, ErrorCode>(Object.values(errors).map((code) => [code.number, code]))

/** The row for a number off the wire; a number from a newer peer counts as `agent_protocol` would: never to be tried again. */
export function errorByNumber(number: number): ErrorCode {
  return byNumber.get(number) ?? errors.agent_protocol
}

/** An error of ours that carries its row; `detail` is for our log, never for a visitor. */
export class PosternError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, detail: string) {
    super(`${code.name}: ${detail}`)
    this.name = 'PosternError'
    this.code = code
  }
}

// How an agent tells what happens: a line for people on a terminal, one JSON object a line elsewhere. No text from outside can make a line of its own.
import type { AgentEvent } from './events.ts'

/** An event of the agent, or of one of its origins. */
export type Reported =
  | AgentEvent
  | { readonly event: 'origin_failed'; readonly target: string; readonly code: string; readonly detail: string }
  | { readonly event: 'warning'; readonly detail: string }
  | { readonly event: 'error'; readonly detail: string }

/** Longer texts come from a peer that means harm. */
const TEXT_MAX_CHARACTERS = 500
// Control bytes, and the marks that turn or hide text in a terminal.
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu

/** Text from outside, cut, and without what would move or hide anything on a terminal. */
export function safe(text: string): string {
  const cut = text.length > TEXT_MAX_CHARACTERS ? `${text.slice(0, TEXT_MAX_CHARACTERS)}…` : text
  return cut.replace(UNSAFE, '?')
}

/** One line of JSON, without its newline. */
export function jsonLine(time: string, reported: Reported): string {
  return JSON.stringify({ time, ...reported }, (_key, value: unknown) => (typeof value === 'string' ? safe(value) : value))
}

/** A line or more for people, without the last newline. */
export function textLines(reported: Reported): string {
  return words(reported).map(safe).join('\n')
}

const FAILURES = {
  tls: 'the gateway shows a wrong certificate',
  proxy: 'no way out',
  http: 'no connection',
  unreachable: 'no connection',
  silent: 'no connection',
  login: 'no session',
} as const

function words(reported: Reported): string[] {
  switch (reported.event) {
    case 'connecting':
      return [`connecting to ${reported.gateway}`]
    case 'serving':
      return [
        `serving through ${reported.gateway} (${reported.channel})`,
        ...reported.services.flatMap(({ name, hosts, target }) => (hosts.length > 0 ? hosts.map((host) => `  ${host} → ${target}`) : [`  ${name} → ${target}`])),
      ]
    case 'nothing_to_serve':
      return [`connected to ${reported.gateway}, which lets this agent serve nothing that it has`]
    case 'not_allowed':
      return [`the gateway does not let this agent serve: ${reported.services.join(', ')}`]
    case 'lost':
      return [`connection lost: ${reported.reason}`]
    case 'resumed':
      return [`connection restored (${reported.channel}), nothing was lost`]
    case 'moved':
      return [reported.from === reported.to ? `another connection (${reported.to}): ${reported.why}` : `now ${reported.to}, no longer ${reported.from}: ${reported.why}`]
    case 'failed':
      return [`${FAILURES[reported.reason]}: ${reported.detail}; trying again in ${(reported.retryMs / 1_000).toFixed(1)} s`]
    case 'origin_unhealthy':
      return [`${reported.name} is not well, and gets no requests: ${reported.target}: ${reported.reason}`]
    case 'origin_healthy':
      return [`${reported.name} is well again: ${reported.target}`]
    case 'setting_refused':
      return [`not as the gateway has set it: ${reported.what}: ${reported.reason}`]
    case 'gateway_drains':
      return ['the gateway is leaving service']
    case 'draining':
      return [`leaving: ${reported.exchanges === 0 ? 'nothing is' : `${String(reported.exchanges)} requests are`} under way; once more to end at once`]
    case 'refused':
      return [`refused by the gateway: ${reported.detail}`]
    case 'closed':
      return ['closed']
    case 'origin_failed':
      return [`${reported.target}: ${reported.code}: ${reported.detail}`]
    case 'warning':
      return [`warning: ${reported.detail}`]
    case 'error':
      return [`error: ${reported.detail}`]
  }
}

// What happens to an agent, told to whoever started it.
import type { ChannelEvent } from './channels.ts'
import type { Served } from './offering.ts'

/** Texts are for people. */
export type AgentEvent =
  | ChannelEvent
  | { readonly event: 'connecting'; readonly gateway: string }
  | { readonly event: 'serving'; readonly gateway: string; readonly channel: string; readonly session: string; readonly services: readonly Served[] }
  | { readonly event: 'nothing_to_serve'; readonly gateway: string }
  | { readonly event: 'not_allowed'; readonly services: readonly string[] }
  | { readonly event: 'origin_unhealthy'; readonly name: string; readonly target: string; readonly reason: string }
  | { readonly event: 'origin_healthy'; readonly name: string; readonly target: string }
  | { readonly event: 'setting_refused'; readonly what: string; readonly reason: string }
  | { readonly event: 'gateway_drains' }
  | { readonly event: 'draining'; readonly exchanges: number }
  | { readonly event: 'refused'; readonly code: string; readonly detail: string }
  | { readonly event: 'closed' }

// What `postern status` shows of an agent's document, for people.
import { sizeText } from '../protocol/volume.ts'
import type { AgentState } from './agent.ts'
import { safe } from './report.ts'
import { table } from './table.ts'

/** What an agent answers at its local socket. */
export interface StatusDocument extends AgentState {
  readonly pid: number
  readonly version: string
  readonly agent: string
  readonly gateway: string
  /** When its session began, RFC 3339; null without one. */
  readonly since: string | null
}

export function statusLines(document: StatusDocument): string[] {
  const { agent, pid, gateway, state, session, since, services, exchanges, channels, settings } = document
  const lines = [`${agent} (process ${String(pid)}) at ${gateway}: ${session === null ? state : `session ${session} since ${String(since)}`}`]
  if (session !== null) lines.push(`  ${String(exchanges)} ${exchanges === 1 ? 'request' : 'requests'} under way`)
  for (const { name, hosts, target } of services) lines.push(`  ${hosts.length > 0 ? hosts.join(', ') : name} → ${target}`)
  for (const { name, refused } of settings) if (refused !== null) lines.push(`  not as the gateway has set it: ${name}: ${refused}`)
  const rows = channels.map(({ kind, way, round_trip_ms, age_ms, sent_bytes, received_bytes, lanes }) => {
    return [kind, way, round_trip_ms === null ? '-' : `${round_trip_ms.toFixed(0)} ms`, ageText(age_ms), sizeText(sent_bytes), sizeText(received_bytes), lanes.join(' ')]
  })
  if (rows.length > 0) lines.push(...table(['KIND', 'WAY', 'ROUND TRIP', 'AGE', 'SENT', 'RECEIVED', 'LANES'], rows).map((line) => `  ${line}`))
  else if (session !== null) lines.push('  no channel at the moment')
  return lines.map(safe)
}

const SECOND_MS = 1_000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

function ageText(ms: number): string {
  if (ms < MINUTE_MS) return `${String(Math.floor(ms / SECOND_MS))} s`
  if (ms < HOUR_MS) return `${String(Math.floor(ms / MINUTE_MS))} min`
  return ms < DAY_MS ? `${String(Math.floor(ms / HOUR_MS))} h` : `${String(Math.floor(ms / DAY_MS))} d`
}

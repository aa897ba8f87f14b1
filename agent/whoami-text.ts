// What `postern whoami` shows of an agent's document: the services and domains it has, and its settings with where each came from.
import { safe } from './report.ts'
import type { StatusDocument } from './status-text.ts'
import { table } from './table.ts'

export function whoamiLines({ agent, pid, gateway, state, session, offers, settings }: StatusDocument): string[] {
  const lines = [`${agent} (process ${String(pid)}) at ${gateway}${session === null ? `: ${state}` : ''}`]
  const services = offers.map(({ name, hosts, target, reason, serves }) => {
    return [name, hosts.length === 0 ? '-' : hosts.join(', '), target ?? '-', reason === null ? 'served' : `${serves ? 'served, but not well' : 'not served'}: ${reason}`]
  })
  if (services.length > 0) lines.push(...table(['SERVICE', 'DOMAINS', 'TARGET', 'STATE'], services).map((line) => `  ${line}`))
  else if (session !== null) lines.push('  the gateway lets it serve nothing')
  const from = settings.map(({ name, value, source, refused }) => [name, value, refused === null ? source : `${source}; the gateway's wish is not followed: ${refused}`])
  lines.push(...table(['SETTING', 'VALUE', 'FROM'], from).map((line) => `  ${line}`))
  return lines.map(safe)
}

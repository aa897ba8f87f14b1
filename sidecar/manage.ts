// The commands that manage a gateway: agents, services and sessions, by the control server's resources.
import type { Command } from './command.ts'
import type { Call, Reply } from './control-client.ts'
import type { LiveSession } from './control-app.ts'
import type { AgentEntry, ServiceEntry } from './directory.ts'

/** The gateway refused it and said why: exit code 1. */
export class RefusedError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'RefusedError'
  }
}

export type Managing = Extract<Command, { command: `agents ${string}` | `services ${string}` | `sessions ${string}` }>

const PAGE_COUNT = 1_000

/** Does it, and returns what is to be printed. */
export async function manage(command: Managing, call: Call): Promise<string> {
  switch (command.command) {
    case 'agents add':
      return addAgent(command, call)
    case 'agents remove':
      need(await call('DELETE', `/v1/agents/${encodeURIComponent(command.name)}`))
      return `agent ${command.name} is gone\n`
    case 'services remove':
      need(await call('DELETE', `/v1/services/${encodeURIComponent(command.name)}`))
      return `service ${command.name} is gone\n`
    case 'services add': {
      const { name, hosts, prefixes, conceal, trailers } = command
      const reply = await call('PUT', `/v1/services/${encodeURIComponent(name)}`, { hosts, conceal, trailers, ...(prefixes.length > 0 ? { prefixes } : {}) })
      need(reply)
      return `service ${name} ${reply.status === 201 ? 'is there' : 'is changed'}\n`
    }
    case 'agents list': {
      const agents = (await all(call, '/v1/agents')) as Omit<AgentEntry, 'record'>[]
      return command.json ? json(agents) : table(['AGENT', 'MAY SERVE'], agents.map(({ id, services }) => [id, services.join(' ')]))
    }
    case 'services list': {
      const services = (await all(call, '/v1/services')) as ServiceEntry[]
      return command.json ? json(services) : table(['SERVICE', 'HOSTS', 'PREFIXES'], services.map(({ name, hosts, prefixes }) => [name, hosts.join(' '), prefixes.join(' ')]))
    }
    case 'sessions list': {
      const sessions = (need(await call('GET', '/v1/sessions')) as { items: LiveSession[] }).items
      const rows = sessions.map((session) => [
        session.agent,
        session.peer,
        session.attached ? session.channels.map(({ kind }) => kind).join(' ') : 'resuming',
        session.services.join(' '),
        String(session.streams),
        `${session.round_trip_ms.toFixed(0)} ms`,
        `${String(Math.round(session.age_s))} s`,
      ])
      return command.json ? json(sessions) : table(['AGENT', 'FROM', 'CHANNEL', 'SERVES', 'STREAMS', 'ROUND TRIP', 'AGE'], rows)
    }
  }
}

// Services that are new come first, then the agent: an agent never names what is not there.
async function addAgent(command: Extract<Managing, { command: 'agents add' }>, call: Call): Promise<string> {
  const [name] = command.services
  const undo = command.hosts.length > 0 ? await addPlaces(name!, command.hosts, command.prefixes, call) : undefined
  const body = { id: command.id, services: command.services, ...(command.url === undefined ? {} : { url: command.url }) }
  const reply = await call('POST', '/v1/agents', body)
  if (reply.status >= 300) await undo?.()
  const made = need(reply) as { join: string }
  return command.json ? json(made) : `${made.join}\n`
}

/** Gives a service these places beside those that it has; returns how to take that back. */
async function addPlaces(name: string, hosts: readonly string[], prefixes: readonly string[], call: Call): Promise<() => Promise<Reply>> {
  const path = `/v1/services/${encodeURIComponent(name)}`
  const there = await call('GET', path)
  const before = there.status === 404 ? undefined : (need(there) as ServiceEntry)
  const merged = {
    hosts: [...new Set([...(before?.hosts ?? []), ...hosts.map((host) => host.toLowerCase())])],
    prefixes: prefixes.length > 0 ? [...new Set([...(before?.prefixes ?? []), ...prefixes])] : (before?.prefixes ?? ['/']),
    conceal: before?.conceal ?? false,
    trailers: before?.trailers ?? false,
  }
  need(await call('PUT', path, merged))
  if (before === undefined) return () => call('DELETE', path)
  const { name: _name, ...places } = before
  return () => call('PUT', path, places)
}

async function all(call: Call, path: string): Promise<unknown[]> {
  const items: unknown[] = []
  for (let after = ''; ; ) {
    const page = need(await call('GET', `${path}?limit=${String(PAGE_COUNT)}&after=${encodeURIComponent(after)}`)) as { items: unknown[]; next: string | null }
    items.push(...page.items)
    if (page.next === null) return items
    after = page.next
  }
}

function need(reply: Reply): unknown {
  if (reply.status < 300) return reply.body
  const detail = typeof reply.body === 'object' && reply.body !== null && 'detail' in reply.body ? String(reply.body.detail) : `HTTP ${String(reply.status)}`
  throw new RefusedError(detail)
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)))
  return [head, ...rows].map((row) => `${row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ').trimEnd()}\n`).join('')
}

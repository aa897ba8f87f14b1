// What is to be there, as a file: the difference to what is there, shown and made; and what is there as such a file.
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { parse, stringify } from 'yaml'
import type { Control } from './control-client.ts'
import type { AgentShown, ServiceShown } from './control-schemas.ts'
import { SettingsError } from './settings.ts'
import { list, need, RefusedError } from './told.ts'

type Call = Control['call']
type Fields = Readonly<Record<string, unknown>>

interface Wanted {
  /** Undefined: not said, and so not changed. */
  readonly settings: Fields | undefined
  readonly services: ReadonlyMap<string, Fields>
  readonly agents: ReadonlyMap<string, Fields>
}

interface Step {
  readonly line: string
  /** Returns what is to be printed beside the line. */
  make(): Promise<string>
}

/** What a service, or an agent, is if a file does not say it. */
const SERVICE: Fields = { prefixes: ['/'], conceal: false, trailers: false, labels: [], origin: null, policy: {} }
const AGENT: Fields = { services: [], labels: [], settings: {}, disabled: false, expires_at: null }
/** An agent that is made may be told where the gateway is. */
const ONLY_MADE = new Set(['url'])
const FILE_MAX_BYTES = 64 * 1024 * 1024

/** Makes it as `file` says. Returns the difference, with the join strings of new agents. */
export async function apply(call: Call, file: string, { dryRun, prune }: { dryRun: boolean; prune: boolean }): Promise<string> {
  const wanted = readWanted(file)
  const steps = [...(await settingSteps(call, wanted)), ...(await serviceSteps(call, wanted)), ...(await agentSteps(call, wanted)), ...(prune ? await pruneSteps(call, wanted) : [])]
  if (steps.length === 0) return 'nothing is to be changed\n'
  if (dryRun) return `${steps.map(({ line }) => line).join('\n')}\n`
  return make(steps)
}

// A service may take a place that another one gives up further down: what is refused is tried again as long as something else worked.
async function make(steps: readonly Step[]): Promise<string> {
  let said = ''
  let left = steps
  while (left.length > 0) {
    const refused: { step: Step; error: RefusedError }[] = []
    for (const step of left) {
      try {
        said += `${step.line}\n${await step.make()}`
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error
        refused.push({ step, error })
      }
    }
    if (refused.length === left.length) {
      const lines = refused.map(({ step, error }) => `${step.line.split('\n')[0]!}: ${error.message}`)
      throw new RefusedError(`${said === '' ? '' : `done:\n${said}`}refused:\n${lines.join('\n')}`)
    }
    left = refused.map(({ step }) => step)
  }
  return said
}

/** What is there, as a file that `apply` takes. */
export async function exported(call: Call): Promise<string> {
  const settings = need(await call('GET', '/v1/settings'))
  const services = (await list(call, '/v1/services')) as ServiceShown[]
  const agents = (await list(call, '/v1/agents')) as AgentShown[]
  const plain = ({ services: names, labels, settings: own, disabled, expires_at }: AgentShown): Fields => without({ services: names, labels, settings: own, disabled, expires_at }, AGENT)
  return stringify({
    settings,
    services: Object.fromEntries(services.map(({ name, created_at: _created, ...fields }) => [name, without(fields, SERVICE)])),
    agents: Object.fromEntries(agents.map((agent) => [agent.id, plain(agent)])),
  })
}

const without = (fields: Fields, usual: Fields): Fields => Object.fromEntries(Object.entries(fields).filter(([name, value]) => !isDeepStrictEqual(value, usual[name])))

function readWanted(file: string): Wanted {
  let parsed: unknown
  try {
    const source = readFileSync(file, 'utf8')
    if (source.length > FILE_MAX_BYTES) throw new Error('too large')
    parsed = parse(source, { maxAliasCount: 0 }) ?? {}
  } catch (error) {
    throw new SettingsError(`${file}: ${error instanceof Error ? error.message : String(error)}`)
  }
  const at = (value: unknown, where: string): Fields => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
    throw new SettingsError(`${file}: ${where} should be names with what belongs to each`)
  }
  const { settings, services = {}, agents = {}, ...rest } = at(parsed, 'the file')
  const extra = Object.keys(rest)[0]
  if (extra !== undefined) throw new SettingsError(`${file}: ${extra} is none of settings, services, agents`)
  const named = (value: unknown, where: string): Map<string, Fields> => new Map(Object.entries(at(value, where)).map(([name, fields]) => [name, at(fields ?? {}, `${where}: ${name}`)]))
  return { settings: settings === undefined ? undefined : at(settings ?? {}, 'settings'), services: named(services, 'services'), agents: named(agents, 'agents') }
}

async function settingSteps(call: Call, { settings }: Wanted): Promise<Step[]> {
  if (settings === undefined) return []
  const reply = await call('GET', '/v1/settings')
  const before = need(reply) as Fields
  const lines = difference(before, settings)
  const match = { 'if-match': String(reply.headers.etag) }
  return lines.length === 0 ? [] : [{ line: ['~ settings', ...lines].join('\n'), make: async () => told(await call('PUT', '/v1/settings', settings, match)) }]
}

async function serviceSteps(call: Call, { services }: Wanted): Promise<Step[]> {
  const there = new Map(((await list(call, '/v1/services')) as ServiceShown[]).map(({ name, created_at: _created, ...fields }) => [name, fields as Fields]))
  return [...services].flatMap(([name, fields]) => {
    const path = `/v1/services/${encodeURIComponent(name)}`
    const before = there.get(name)
    const after = { ...SERVICE, ...fields, ...(Array.isArray(fields.hosts) ? { hosts: fields.hosts.map((host: unknown) => (typeof host === 'string' ? host.toLowerCase() : host)) } : {}) }
    if (before === undefined) return [{ line: `+ service ${name}`, make: async () => told(await call('PUT', path, after)) }]
    const lines = difference(before, after)
    return lines.length === 0 ? [] : [{ line: [`~ service ${name}`, ...lines].join('\n'), make: async () => told(await call('PUT', path, after, { 'if-match': '*' })) }]
  })
}

async function agentSteps(call: Call, { agents }: Wanted): Promise<Step[]> {
  const there = new Map(((await list(call, '/v1/agents')) as AgentShown[]).map((agent) => [agent.id, agent]))
  return [...agents].flatMap(([id, fields]) => {
    const before = there.get(id)
    const made = async (): Promise<string> => `  ${(need(await call('POST', '/v1/agents', { id, ...fields })) as { join: string }).join}\n`
    if (before === undefined) return [{ line: `+ agent ${id}`, make: made }]
    const after = Object.fromEntries(Object.entries({ ...AGENT, ...fields }).filter(([name]) => !ONLY_MADE.has(name)))
    const { services, labels, settings, disabled, expires_at } = before
    const lines = difference({ services, labels, settings, disabled, expires_at }, { ...after, services: sorted(after.services), expires_at: iso(after.expires_at) })
    if (lines.length === 0) return []
    const patch = async (fields: Fields): Promise<string> => told(await call('PATCH', `/v1/agents/${encodeURIComponent(id)}`, fields, { 'if-match': '*' }))
    const names = Array.isArray(after.services) ? (after.services as unknown[]) : []
    const kept = services.filter((name) => names.includes(name))
    return [{ line: [`~ agent ${id}`, ...lines].join('\n'), make: async () => {
      // First what it gives up: a service that it is to serve may wait for the place of one that goes.
      if (kept.length < services.length) await patch({ services: kept })
      return patch(after)
    } }]
  })
}

// Agents first: a service that an agent is named for stays.
async function pruneSteps(call: Call, { services, agents }: Wanted): Promise<Step[]> {
  const gone = async (path: string, what: string, nameOf: (entry: never) => string, wanted: ReadonlyMap<string, Fields>): Promise<Step[]> => {
    const names = ((await list(call, path)) as never[]).map(nameOf).filter((name) => !wanted.has(name))
    return names.map((name) => ({ line: `- ${what} ${name}`, make: async () => told(await call('DELETE', `${path}/${encodeURIComponent(name)}`)) }))
  }
  return [...(await gone('/v1/agents', 'agent', ({ id }: AgentShown) => id, agents)), ...(await gone('/v1/services', 'service', ({ name }: ServiceShown) => name, services))]
}

function told(reply: Parameters<typeof need>[0]): string {
  need(reply)
  return ''
}

const sorted = (value: unknown): unknown => (Array.isArray(value) ? [...(value as string[])].sort() : value)
const iso = (value: unknown): unknown => (typeof value === 'string' && !Number.isNaN(Date.parse(value)) ? new Date(value).toISOString() : value)

/** A line for each member that differs. */
function difference(before: Fields, after: Fields): string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  return names.filter((name) => !isDeepStrictEqual(before[name], after[name])).map((name) => `    ${name}: ${said(before[name])} → ${said(after[name])}`)
}

const said = (value: unknown): string => (value === undefined ? 'not set' : JSON.stringify(value))

// What is to be there, as a file: the difference to what is there, shown and made; and what is there as such a file.
import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { parse, stringify } from 'yaml'
import type { Control } from './control-client.ts'
import type { AgentShown, AppliedChange, ServiceShown } from './control-schemas.ts'
import { SettingsError } from './settings.ts'
import { list, need } from './told.ts'

type Call = Control['call']
type Fields = Readonly<Record<string, unknown>>

/** What a service, or an agent, is if a file does not say it. */
const SERVICE: Fields = { prefixes: ['/'], conceal: false, trailers: false, labels: [], origin: null, policy: {} }
const AGENT: Fields = { services: [], labels: [], settings: {}, disabled: false, expires_at: null }
const FILE_MAX_BYTES = 16 * 1024 * 1024
const SIGNS = { created: '+', changed: '~', removed: '-' } as const

/** Makes it as `file` says, all of it or nothing. Returns the difference, with the join strings of new agents. */
export async function apply(call: Call, file: string, { dryRun, prune }: { dryRun: boolean; prune: boolean }): Promise<string> {
  const { changes } = need(await call('POST', `/v1/apply?dry_run=${String(dryRun)}&prune=${String(prune)}`, readWanted(file))) as { changes: readonly AppliedChange[] }
  return changes.length === 0 ? 'nothing is to be changed\n' : changes.map(said).join('')
}

function said({ action, resource, fields, join }: AppliedChange): string {
  const [kind, name] = resource.split('/')
  const what = name === undefined ? resource : `${kind!.replace(/s$/, '')} ${name}`
  const lines = [`${SIGNS[action]} ${what}`, ...fields.map(({ field, before, after }) => `    ${field}: ${before ?? 'not set'} → ${after ?? 'not set'}`), ...(join === undefined ? [] : [`  ${join}`])]
  return `${lines.join('\n')}\n`
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

function readWanted(file: string): Fields {
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
  // A name with nothing behind it is one of which nothing is said.
  const named = (value: unknown, where: string): Fields => Object.fromEntries(Object.entries(at(value, where)).map(([name, fields]) => [name, at(fields ?? {}, `${where}: ${name}`)]))
  return { ...(settings === undefined ? {} : { settings: at(settings ?? {}, 'settings') }), services: named(services, 'services'), agents: named(agents, 'agents') }
}

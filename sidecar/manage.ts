// The commands that manage a gateway, by the control server's resources: what each asks and what it prints.
import { parse } from 'yaml'
import { sizeText } from '../protocol/volume.ts'
import { apply, exported } from './apply.ts'
import type { Command, CommandName, Given } from './command.ts'
import type { Control, Reply } from './control-client.ts'
import type { FiguresShown } from './control-figures.ts'
import type { AgentShown, ExchangeShown, HistoryShown, RouteShown, ServiceShown, SessionShown, TokenShown } from './control-schemas.ts'
import { withoutKeys } from './control-tls.ts'
import { EXCHANGE_HEAD, exchangeRow, followExchanges, type Out } from './exchange-tail.ts'
import { SettingsError } from './settings.ts'
import { json, list, moment, need, table } from './told.ts'

/** Every other command runs or sets up a gateway. */
export type Managing = Exclude<CommandName, 'start' | 'check' | 'nginx' | 'pipe' | 'completion'>

const LIMIT_COUNT = 50
const agentPath = (id: string): string => `/v1/agents/${encodeURIComponent(id)}`
const servicePath = (name: string): string => `/v1/services/${encodeURIComponent(name)}`

type Do = (control: Control, command: Command, out: Out) => Promise<string>

const DOES: Readonly<Record<Managing, Do>> = {
  'agents add': addAgent,
  'agents list': async ({ call }, { given, json: asJson }) => {
    const agents = (await list(call, given.of === undefined ? '/v1/agents' : `/v1/agents?service=${encodeURIComponent(given.of)}`)) as AgentShown[]
    return asJson ? json(agents) : table(['AGENT', 'MAY SERVE', 'LABELS', 'STATE'], agents.map(({ id, services, labels, state }) => [id, services.join(' '), labels.join(' '), state]))
  },
  'agents show': async ({ call }, { args }) => json(need(await call('GET', agentPath(args[0]!)))),
  'agents set': setAgent,
  'agents rotate': async ({ call }, { args, given, json: asJson }) => {
    const made = need(await call('POST', `${agentPath(args[0]!)}/rotate`, given.url === undefined ? {} : { url: given.url })) as { join: string }
    return asJson ? json(made) : `${made.join}\n`
  },
  'agents revoke': async ({ call }, { args }) => {
    need(await call('POST', `${agentPath(args[0]!)}/revoke`, {}))
    return `agent ${args[0]!} is revoked\n`
  },
  'agents remove': async ({ call }, { args }) => {
    need(await call('DELETE', agentPath(args[0]!)))
    return `agent ${args[0]!} is gone\n`
  },
  'services add': async ({ call }, { args, given }) => {
    const reply = await put(call, args[0]!, placed(given))
    need(reply)
    return `service ${args[0]!} ${reply.status === 201 ? 'is there' : 'is changed'}\n`
  },
  'services list': async ({ call }, { json: asJson }) => {
    const services = (await list(call, '/v1/services')) as ServiceShown[]
    const rows = services.map(({ name, hosts, prefixes, labels, policy }) => [name, hosts.join(' '), prefixes.join(' '), labels.join(' '), Object.keys(policy).join(' ')])
    return asJson ? json(services) : table(['SERVICE', 'HOSTS', 'PREFIXES', 'LABELS', 'POLICY'], rows)
  },
  'services show': async ({ call }, { args }) => json(need(await call('GET', servicePath(args[0]!)))),
  'services set': async ({ call }, { args, given }) => {
    const path = servicePath(args[0]!)
    const { body, etag } = await read(call, path)
    const fields = placed(given, (body as ServiceShown).policy)
    need(await call('PATCH', path, fields, { 'if-match': etag }))
    return `service ${args[0]!} is changed\n`
  },
  'services credential': async ({ call }, { args, given: { user, field }, json: asJson }) => {
    const body = { ...(user === undefined ? {} : { user }), ...(field === undefined ? {} : { field }) }
    const made = need(await call('POST', `${servicePath(args[0]!)}/credentials`, body)) as { secret: string }
    return asJson ? json(made) : `${made.secret}\n`
  },
  'services remove': async ({ call }, { args }) => {
    need(await call('DELETE', servicePath(args[0]!)))
    return `service ${args[0]!} is gone\n`
  },
  'sessions list': async ({ call }, { given, json: asJson }) => {
    const sessions = (await list(call, given.agent === undefined ? '/v1/sessions' : `/v1/sessions?agent=${encodeURIComponent(given.agent)}`)) as SessionShown[]
    const rows = sessions.map((session) => [
      session.id,
      session.agent,
      session.peer,
      session.attached ? session.channels.map(({ kind }) => kind).join(' ') : 'resuming',
      session.services.join(' '),
      String(session.exchanges),
      sizeText(session.sent_bytes),
      sizeText(session.received_bytes),
      session.round_trip_ms === null ? '-' : `${session.round_trip_ms.toFixed(0)} ms`,
      `${String(Math.round(session.age_s))} s`,
    ])
    return asJson ? json(sessions) : table(['SESSION', 'AGENT', 'FROM', 'CHANNEL', 'SERVES', 'EXCHANGES', 'SENT', 'RECEIVED', 'ROUND TRIP', 'AGE'], rows)
  },
  'sessions figures': async ({ call }, { args, json: asJson }) => {
    const figures = need(await call('GET', `/v1/sessions/${encodeURIComponent(args[0]!)}/figures`)) as FiguresShown
    const shown = (name: string, value: string | number): string => (typeof value === 'string' ? value : name.endsWith('_bytes') ? sizeText(value) : String(Math.round(value * 1_000) / 1_000))
    return asJson ? json(figures) : table(['FIGURE', 'VALUE'], Object.entries(figures).map(([name, value]) => [name, shown(name, value)]))
  },
  'sessions disconnect': async ({ call }, { args, given }) => {
    const path = `/v1/sessions/${encodeURIComponent(args[0]!)}`
    need(await call('DELETE', given.channel === undefined ? path : `${path}/channels/${given.channel}`))
    return given.channel === undefined ? `session ${args[0]!} is over\n` : `channel ${given.channel} of session ${args[0]!} is gone\n`
  },
  'settings show': async ({ call }, { json: asJson }) => {
    const settings = need(await call('GET', '/v1/settings')) as Record<string, unknown>
    return asJson ? json(settings) : table(['SETTING', 'VALUE'], Object.entries(settings).map(([key, value]) => [key, JSON.stringify(value)]))
  },
  'settings set': async ({ call }, { args }) => {
    const { body, etag } = await read(call, '/v1/settings')
    need(await call('PUT', '/v1/settings', merged(body as object, args), { 'if-match': etag }))
    return 'the settings are changed\n'
  },
  'tokens add': async ({ call }, { args, given, json: asJson }) => {
    const expires = given.expires === undefined ? {} : { expires_at: moment(given.expires) }
    const made = need(await call('POST', '/v1/tokens', { name: args[0], scopes: given.scope, ...expires })) as { secret: string }
    return asJson ? json(made) : `${made.secret}\n`
  },
  'tokens list': async ({ call }, { json: asJson }) => {
    const tokens = (await list(call, '/v1/tokens')) as TokenShown[]
    return asJson ? json(tokens) : table(['TOKEN', 'NAME', 'SCOPES', 'EXPIRES'], tokens.map(({ id, name, scopes, expires_at }) => [id, name, scopes.join(' '), expires_at ?? 'never']))
  },
  'tokens remove': async ({ call }, { args }) => {
    need(await call('DELETE', `/v1/tokens/${encodeURIComponent(args[0]!)}`))
    return `token ${args[0]!} is gone\n`
  },
  'routes list': async ({ call }, { json: asJson }) => {
    const routes = (await list(call, '/v1/routes')) as RouteShown[]
    return asJson ? json(routes) : table(['HOST', 'PREFIX', 'SERVICE', 'STATE'], routes.map(({ host, prefix, service, state }) => [host, prefix, service, state]))
  },
  'exchanges list': async (control, command, out) => {
    const { given: { of, agent, error, uuid, limit, follow }, json: asJson } = command
    if (follow === true) {
      await followExchanges(control, command, out)
      return ''
    }
    const exchanges = (await newest(control.call, '/v1/exchanges', { service: of, agent, error, uuid, limit })) as ExchangeShown[]
    return asJson ? json(exchanges) : table(EXCHANGE_HEAD, exchanges.map(exchangeRow))
  },
  'history list': async ({ call }, { given: { subject, kind, limit }, json: asJson }) => {
    const entries = (await newest(call, '/v1/history', { subject, kind, limit })) as HistoryShown[]
    return asJson ? json(entries) : table(['AT', 'WHAT', 'OF', 'WHO', 'DETAIL'], entries.map(({ at, kind: what, subject: of, who, detail }) => [at, what, of, who, JSON.stringify(detail)]))
  },
  apply: async ({ call }, { given }) => apply(call, given.file!, { dryRun: given['dry-run'] === true, prune: given.prune === true }),
  export: async ({ call }) => exported(call),
  backup: async ({ save }, { args }) => {
    await save('/v1/backup', args[0]!)
    return `${args[0]!} is there\n`
  },
}

export const isManaging = (name: CommandName): name is Managing => Object.hasOwn(DOES, name)

/** Does it, and returns what is to be printed at its end. */
export const manage = async (name: Managing, command: Command, control: Control, out: Out): Promise<string> => withoutKeys(await DOES[name](control, command, out))

type Call = Control['call']

async function read(call: Call, path: string): Promise<{ body: unknown; etag: string }> {
  const reply = await call('GET', path)
  return { body: need(reply), etag: String(reply.headers.etag) }
}

/** Whatever it is now, it is to be this. */
async function put(call: Call, name: string, body: object): Promise<Reply> {
  const { status } = await call('GET', servicePath(name))
  return call('PUT', servicePath(name), body, status === 404 ? {} : { 'if-match': '*' })
}

const newest = async (call: Call, path: string, query: Readonly<Record<string, string | undefined>>): Promise<unknown[]> => {
  const said = Object.entries({ ...query, limit: query.limit ?? String(LIMIT_COUNT) }).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return (need(await call('GET', `${path}?${new URLSearchParams(said).toString()}`)) as { items: unknown[] }).items
}

/** What options say of a service. */
function placed({ host, prefix, conceal, trailers, label, origin, rule }: Given, policy: object = {}): Record<string, unknown> {
  return {
    ...(host === undefined ? {} : { hosts: host }),
    ...(prefix === undefined ? {} : { prefixes: prefix }),
    ...(conceal === undefined ? {} : { conceal }),
    ...(trailers === undefined ? {} : { trailers }),
    ...(label === undefined ? {} : { labels: label }),
    ...(origin === undefined ? {} : { origin: origin === '' ? null : origin }),
    ...(rule === undefined ? {} : { policy: merged(policy, rule) }),
  }
}

/** `before` with what was typed as KEY=VALUE. */
function merged(before: object, typed: readonly string[]): Record<string, unknown> {
  const after: Record<string, unknown> = { ...before }
  for (const one of typed) {
    const at = one.indexOf('=')
    if (at < 1) throw new SettingsError(`${JSON.stringify(one)} is no KEY=VALUE`)
    const key = one.slice(0, at)
    let value: unknown
    try {
      value = parse(one.slice(at + 1), { maxAliasCount: 0 })
    } catch {
      throw new SettingsError(`${key}: its value is no YAML`)
    }
    if (value === null) delete after[key]
    else after[key] = value
  }
  return after
}

async function setAgent({ call }: Control, { args, given }: Command): Promise<string> {
  const path = agentPath(args[0]!)
  const { body, etag } = await read(call, path)
  const { service, label, setting, expires, disable, enable } = given
  need(await call('PATCH', path, {
    ...(service === undefined ? {} : { services: service }),
    ...(label === undefined ? {} : { labels: label }),
    ...(setting === undefined ? {} : { settings: merged((body as AgentShown).settings, setting) }),
    ...(expires === undefined ? {} : { expires_at: moment(expires) }),
    ...(disable === true || enable === true ? { disabled: disable === true } : {}),
  }, { 'if-match': etag }))
  return `agent ${args[0]!} is changed\n`
}

// Services that are new come first, then the agent: an agent never names what is not there.
async function addAgent({ call }: Control, { args, given, json: asJson }: Command): Promise<string> {
  const { service: services = [], label: labels = [], setting, host: hosts = [], prefix: prefixes = [], expires, url } = given
  const undo = hosts.length > 0 ? await addPlaces(services[0]!, hosts, prefixes, call) : undefined
  const more = { ...(setting === undefined ? {} : { settings: merged({}, setting) }), ...(expires === undefined ? {} : { expires_at: moment(expires) }), ...(url === undefined ? {} : { url }) }
  const reply = await call('POST', '/v1/agents', { id: args[0], services, labels, ...more })
  if (reply.status >= 300) await undo?.()
  const made = need(reply) as { join: string }
  return asJson ? json(made) : `${made.join}\n`
}

/** Gives a service these places beside those that it has; returns how to take that back. */
async function addPlaces(name: string, hosts: readonly string[], prefixes: readonly string[], call: Call): Promise<() => Promise<Reply>> {
  const path = servicePath(name)
  const there = await call('GET', path)
  const before = there.status === 404 ? undefined : (need(there) as ServiceShown)
  const fields = {
    hosts: [...new Set([...(before?.hosts ?? []), ...hosts.map((host) => host.toLowerCase())])],
    prefixes: prefixes.length > 0 ? [...new Set([...(before?.prefixes ?? []), ...prefixes])] : (before?.prefixes ?? ['/']),
  }
  if (before === undefined) {
    need(await call('PUT', path, fields))
    return () => call('DELETE', path)
  }
  need(await call('PATCH', path, fields, { 'if-match': String(there.headers.etag) }))
  return () => call('PATCH', path, { hosts: before.hosts, prefixes: before.prefixes }, { 'if-match': '*' })
}

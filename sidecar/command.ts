// The command line of `postern-gateway`: a table of commands, from which help and completion come, read strictly into what is to be done.
import { parseArgs } from 'node:util'
import { flagOf, type SettingName, SETTINGS, SettingsError } from './settings.ts'

type Flags = Readonly<Partial<Record<SettingName, string>>>

/** What a command takes beside the settings. */
const OPTIONS = {
  service: { type: 'string', multiple: true, value: 'NAME', about: 'a service that the agent may serve' },
  label: { type: 'string', multiple: true, value: 'LABEL', about: 'of an agent: what it has; of a service: what an agent needs to serve it' },
  host: { type: 'string', multiple: true, value: 'HOST', about: 'a hostname, or a wildcard like +.example.com' },
  prefix: { type: 'string', multiple: true, value: '/PATH', about: 'a path prefix, instead of /' },
  conceal: { type: 'boolean', about: 'unknown and away look alike to a visitor' },
  trailers: { type: 'boolean', about: 'trailers reach the visitor' },
  origin: { type: 'string', value: 'URL', about: 'the target to suggest to agents' },
  rule: { type: 'string', multiple: true, value: 'KEY=VALUE', about: 'of the service’s policy, the value as YAML; KEY= takes it away' },
  user: { type: 'string', value: 'NAME', about: 'a name and a password for Basic, instead of a token' },
  field: { type: 'string', value: 'FIELD', about: 'the request field that holds the token, instead of Authorization: Bearer' },
  setting: { type: 'string', multiple: true, value: 'KEY=VALUE', about: 'for this agent alone, the value as YAML; KEY= takes it away' },
  expires: { type: 'string', value: 'TIME', about: 'until when it is good: 2027-01-31, 2027-01-31T12:00:00Z, or never' },
  disable: { type: 'boolean', about: 'it may not come in for now' },
  enable: { type: 'boolean', about: 'it may come in again' },
  scope: { type: 'string', multiple: true, value: 'SCOPE', about: 'read, agents, services or all' },
  url: { type: 'string', value: 'URL', about: 'the gateway’s URL for this agent, instead of public_url' },
  agent: { type: 'string', value: 'ID', about: 'of this agent alone' },
  of: { type: 'string', value: 'NAME', about: 'of this service alone' },
  error: { type: 'string', value: 'CODE', about: 'those that ended with this code' },
  uuid: { type: 'string', value: 'UUID', about: 'the exchange with this command uuid' },
  subject: { type: 'string', value: 'SUBJECT', about: 'of one resource, as agents/web-1' },
  kind: { type: 'string', value: 'KIND', about: 'of one kind, as session_ended' },
  limit: { type: 'string', value: 'N', about: 'so many entries at most (50)' },
  follow: { type: 'boolean', about: 'those that come from now on, as they come; with --json one a line' },
  channel: { type: 'string', value: 'N', about: 'only its channel at this place, from 0' },
  file: { type: 'string', short: 'f', value: 'FILE', about: 'what is to be there, as YAML' },
  'dry-run': { type: 'boolean', about: 'only show the difference' },
  prune: { type: 'boolean', about: 'remove what the file does not name' },
  out: { type: 'string', value: 'DIR', about: 'the folder that nginx includes from' },
} as const

type OptionName = keyof typeof OPTIONS
export type Given = {
  readonly [K in OptionName]?: (typeof OPTIONS)[K] extends { readonly multiple: true } ? readonly string[] : (typeof OPTIONS)[K]['type'] extends 'boolean' ? boolean : string
}

interface Spec {
  /** What follows: one word of this kind; with `…` one or more. */
  readonly args?: 'ID' | 'NAME' | 'FILE' | 'SHELL' | 'KEY=VALUE…'
  readonly options?: readonly OptionName[]
  readonly about: string
}

const PLACES = ['host', 'prefix'] as const
const SERVICE = ['conceal', 'trailers', 'label', 'origin', 'rule'] as const

export const COMMANDS = {
  start: { about: 'run the gateway' },
  check: { about: 'say whether the configuration is right, and do nothing' },
  'agents add': { args: 'ID', options: ['service', 'label', 'setting', 'expires', 'url', ...PLACES], about: 'make an agent, and its service if --host is said; print its join string, once' },
  'agents list': { options: ['of'], about: 'the agents' },
  'agents show': { args: 'ID', about: 'one agent' },
  'agents set': { args: 'ID', options: ['service', 'label', 'setting', 'expires', 'disable', 'enable'], about: 'change what is said; lists are replaced' },
  'agents rotate': { args: 'ID', options: ['url'], about: 'a new secret: print the join string, once; the old one is worthless at once' },
  'agents revoke': { args: 'ID', about: 'make its secret worthless; only rotate lets it in again' },
  'agents remove': { args: 'ID', about: 'remove it' },
  'services add': { args: 'NAME', options: [...PLACES, ...SERVICE], about: 'make a service, or change it to exactly this' },
  'services list': { about: 'the services' },
  'services show': { args: 'NAME', about: 'one service, with its policy' },
  'services set': { args: 'NAME', options: [...PLACES, ...SERVICE], about: 'change what is said; lists are replaced' },
  'services credential': { args: 'NAME', options: ['user', 'field'], about: 'make a token for its visitors, or a name and a password; print it, once' },
  'services remove': { args: 'NAME', about: 'remove it' },
  'sessions list': { options: ['agent'], about: 'who is connected' },
  'sessions figures': { args: 'ID', about: 'what the agent of a session tells of its process, at this moment' },
  'sessions disconnect': { args: 'ID', options: ['channel'], about: 'end a session, or one channel of it' },
  'settings show': { about: 'what is set for all agents' },
  'settings set': { args: 'KEY=VALUE…', about: 'set for all agents, the value as YAML; KEY= takes it away' },
  'tokens add': { args: 'NAME', options: ['scope', 'expires'], about: 'make a token for the control server on its hosts; print it, once' },
  'tokens list': { about: 'the tokens' },
  'tokens remove': { args: 'ID', about: 'remove it' },
  'routes list': { about: 'what is published, and whether somebody serves it' },
  'exchanges list': { options: ['of', 'agent', 'error', 'uuid', 'limit', 'follow'], about: 'recent exchanges, the newest first' },
  'history list': { options: ['subject', 'kind', 'limit'], about: 'what happened, the newest first' },
  apply: { options: ['file', 'dry-run', 'prune'], about: 'make it as a file says, and show the difference' },
  export: { about: 'all settings, services and agents as such a file' },
  backup: { args: 'FILE', about: 'a copy of the store as it is now' },
  nginx: { options: ['out'], about: 'write the files that nginx includes' },
  pipe: { about: 'a channel over standard input and output, as for ssh edge postern-gateway pipe' },
  completion: { args: 'SHELL', about: 'the completion of these commands for bash or zsh' },
} as const satisfies Readonly<Record<string, Spec>>

export type CommandName = keyof typeof COMMANDS

export interface Command {
  readonly command: CommandName
  readonly args: readonly string[]
  readonly given: Given
  readonly file: string | undefined
  readonly flags: Flags
  readonly json: boolean
}

const SETTING_FLAGS = (Object.keys(SETTINGS) as SettingName[]).map(flagOf)
const specOf = (name: CommandName): Spec => COMMANDS[name]
const NAMES = Object.keys(COMMANDS) as CommandName[]

const usage = NAMES.map((name) => `  ${[name, specOf(name).args ?? ''].join(' ').trim().padEnd(24)} ${specOf(name).about}`)
const optionLines = (Object.keys(OPTIONS) as OptionName[]).map((name) => {
  const option = OPTIONS[name]
  const users = NAMES.filter((command) => specOf(command).options?.includes(name) === true)
  return `  --${`${name}${'value' in option ? ` ${option.value}` : ''}`.padEnd(20)} ${option.about} (${users.join(', ')})`
})
const settingLines = (Object.keys(SETTINGS) as SettingName[]).map((name) => {
  const { otherwise, about } = SETTINGS[name]
  const said = otherwise === undefined || (Array.isArray(otherwise) && otherwise.length === 0) ? '' : ` (${String(otherwise)})`
  return `  --${flagOf(name).padEnd(18)} ${about}${said}`
})

export const HELP = `The gateway of Postern: holds the agents' channels and carries what nginx hands it.

usage: postern-gateway COMMAND
${usage.join('\n')}

options:
  -c, --config FILE      settings as YAML (POSTERN_CONFIG)
  --json                 JSON instead of a table
  --help, --version
${optionLines.join('\n')}

settings, as flags, as POSTERN_… in the environment, or in the file with _ for -:
${settingLines.join('\n')}

Flags go before the environment, that before the file. The first SIGINT or SIGTERM lets requests under way finish, the second ends at once.
exit codes: 0 clean, 1 failure, 2 usage or configuration, 3 refused, 4 unreachable
`

const EVERYWHERE = ['config', 'json', 'help', 'version', ...SETTING_FLAGS]

/** The options that may follow a command, for the completion. */
export const optionsOf = (name: CommandName): string[] => [...(specOf(name).options ?? []), ...EVERYWHERE].map((option) => `--${option}`)

type Values = ReturnType<typeof parse>['values']

function parse(argv: readonly string[]) {
  const own = Object.fromEntries(Object.entries(OPTIONS).map(([name, { type, ...rest }]) => {
    return [name, { type, multiple: 'multiple' in rest, ...('short' in rest ? { short: rest.short } : {}) }]
  })) as Record<string, { type: 'string' | 'boolean'; multiple: boolean; short?: string }>
  const settings = Object.fromEntries(SETTING_FLAGS.map((name) => [name, { type: 'string' as const }]))
  const options = { ...settings, ...own, config: { type: 'string', short: 'c' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, version: { type: 'boolean', short: 'V' } } as const
  return parseArgs({ args: [...argv], options, allowPositionals: true })
}

/** Reads the arguments after the program's name. Throws a {@link SettingsError}. */
export function readCommand(argv: readonly string[]): Command | 'help' | 'version' {
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(argv)
  } catch (error) {
    throw new SettingsError(error instanceof Error ? error.message : String(error))
  }
  const { values, positionals } = parsed
  if (values.help === true || positionals[0] === 'help') return 'help'
  if (values.version === true || positionals[0] === 'version') return 'version'
  if (positionals.length === 0) throw new SettingsError('what is to be done? Try postern-gateway --help')
  const words = NAMES.some((name) => name.startsWith(`${positionals[0]!} `)) ? 2 : 1
  const name = NAMES.find((one) => one === positionals.slice(0, words).join(' '))
  if (name === undefined) throw new SettingsError(`${JSON.stringify(positionals.slice(0, 2).join(' '))} is no command. Try postern-gateway --help`)
  const args = positionals.slice(words)
  checkOptions(name, values)
  const given = Object.fromEntries(Object.entries(values).filter(([option]) => Object.hasOwn(OPTIONS, option))) as Given
  checkGiven(name, given)
  checkArguments(name, args)
  return { command: name, args, given, file: values.config, flags: flagsOf(values), json: values.json === true }
}

function checkOptions(name: CommandName, values: Values): void {
  const taken: readonly string[] = [...EVERYWHERE, ...(specOf(name).options ?? [])]
  const extra = Object.keys(values).find((option) => !taken.includes(option))
  if (extra !== undefined) throw new SettingsError(`${name} takes no --${extra}`)
}

const WORDS: Readonly<Record<NonNullable<Spec['args']>, string>> = { ID: 'one id', NAME: 'one name', FILE: 'one file', SHELL: 'bash or zsh', 'KEY=VALUE…': 'KEY=VALUE' }

function checkArguments(name: CommandName, args: readonly string[]): void {
  const { args: kind } = specOf(name)
  if (kind === undefined && args.length > 0) throw new SettingsError(`${name} takes no ${JSON.stringify(args[0])}`)
  if (kind === undefined) return
  if (args.length === 0 || (args.length > 1 && kind !== 'KEY=VALUE…')) throw new SettingsError(`${name} takes ${WORDS[kind]}`)
  if (kind === 'SHELL' && !['bash', 'zsh'].includes(args[0]!)) throw new SettingsError(`${name} takes ${WORDS[kind]}`)
}

/** What options ask of each other. */
function checkGiven(name: CommandName, { service = [], label = [], host = [], prefix = [], disable, enable, scope = [], file, out, limit, channel, uuid, follow }: Given): void {
  const need = (isThere: boolean, says: string): void => {
    if (!isThere) throw new SettingsError(says)
  }
  if (name === 'agents add') {
    need(service.length > 0 || label.length > 0, 'agents add needs --service NAME, or --label LABEL')
    need(prefix.length === 0 || host.length > 0, '--prefix needs --host HOST')
    need(host.length === 0 || service.length === 1, '--host and --prefix go with one --service')
  }
  if (name === 'services add') need(host.length > 0, 'services add needs --host HOST')
  if (name === 'agents set') need(disable !== true || enable !== true, 'either --disable or --enable')
  if (name === 'tokens add') need(scope.length > 0, 'tokens add needs --scope SCOPE')
  if (name === 'apply') need(file !== undefined, 'apply needs -f FILE')
  if (name === 'nginx') need(out !== undefined, 'nginx needs --out DIR, the folder that nginx includes from')
  need(follow !== true || (uuid === undefined && limit === undefined), '--follow goes with neither --uuid nor --limit')
  for (const [option, value] of Object.entries({ limit, channel })) need(value === undefined || /^[0-9]{1,4}$/.test(value), `--${option} takes a number`)
}

function flagsOf(values: Values): Flags {
  const flags: Partial<Record<SettingName, string>> = {}
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const value = (values as Readonly<Record<string, unknown>>)[flagOf(name)]
    if (typeof value === 'string') flags[name] = value
  }
  return flags
}

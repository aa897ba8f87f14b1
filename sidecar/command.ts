// The command line of `postern-gateway`, read strictly into what is to be done.
import { parseArgs } from 'node:util'
import { flagOf, type SettingName, SETTINGS, SettingsError } from './settings.ts'

type Flags = Readonly<Partial<Record<SettingName, string>>>

export type Command =
  | { readonly command: 'help' | 'version' }
  | ({ readonly command: 'start' | 'check' | 'pipe' } & Configured)
  | ({ readonly command: 'nginx'; readonly out: string } & Configured)
  | ({ readonly command: 'agents add'; readonly id: string; readonly services: readonly string[]; readonly url: string | undefined } & Places & Configured)
  | ({ readonly command: 'agents remove' | 'services remove'; readonly name: string } & Configured)
  | ({ readonly command: 'services add'; readonly name: string; readonly conceal: boolean; readonly trailers: boolean } & Places & Configured)
  | ({ readonly command: 'agents list' | 'services list' | 'sessions list' } & Configured)

/** Where a service is to be found. */
interface Places {
  readonly hosts: readonly string[]
  readonly prefixes: readonly string[]
}

interface Configured {
  readonly file: string | undefined
  readonly flags: Flags
  readonly json: boolean
}

const settingLines = (Object.keys(SETTINGS) as SettingName[]).map((name) => {
  const { otherwise, about } = SETTINGS[name]
  return `  --${flagOf(name).padEnd(18)} ${about}${otherwise === undefined ? '' : ` (${String(otherwise)})`}`
})

const COMMANDS: readonly string[] = ['start', 'check', 'pipe', 'nginx', 'agents add', 'agents remove', 'agents list', 'services add', 'services remove', 'services list', 'sessions list']

export const HELP = `The gateway of Postern: holds the agents' channels and carries what nginx hands it.

usage:
  postern-gateway start [-c FILE]                                run the gateway
  postern-gateway agents add ID --service NAME [--host HOST]     make an agent and print its join string, once
  postern-gateway agents list | agents remove ID
  postern-gateway services add NAME --host HOST [--prefix /PATH] [--conceal] [--trailers]      make a service, or change it to this
  postern-gateway services list | services remove NAME
  postern-gateway sessions list                                  who is connected
  postern-gateway nginx --out DIR                                write the files that nginx includes
  postern-gateway pipe [--run-dir DIR]                           a channel over standard input and output, as for ssh edge postern-gateway pipe
  postern-gateway check [-c FILE]                                say whether the configuration is right, and do nothing

options:
  -c, --config FILE    settings as YAML (POSTERN_CONFIG)
  --json               JSON instead of a table
  --url URL            agents add: the gateway's URL for this agent, instead of public_url
  --help, --version

settings, as flags, as POSTERN_… in the environment, or in the file with _ for -:
${settingLines.join('\n')}

Flags go before the environment, that before the file. The first SIGINT or SIGTERM lets requests under way finish, the second ends at once.
exit codes: 0 clean, 1 failure, 2 usage or configuration, 3 refused, 4 unreachable
`

const SETTING_FLAGS = Object.fromEntries((Object.keys(SETTINGS) as SettingName[]).map((name) => [flagOf(name), { type: 'string' as const }]))
const OPTIONS = {
  ...SETTING_FLAGS,
  config: { type: 'string', short: 'c' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
  service: { type: 'string', multiple: true },
  host: { type: 'string', multiple: true },
  prefix: { type: 'string', multiple: true },
  conceal: { type: 'boolean' },
  trailers: { type: 'boolean' },
  url: { type: 'string' },
  out: { type: 'string' },
} as const

/** Which of the options beside the settings a command takes. */
const TAKES: Readonly<Record<string, readonly string[]>> = {
  'agents add': ['service', 'host', 'prefix', 'url'],
  'services add': ['host', 'prefix', 'conceal', 'trailers'],
  nginx: ['out'],
}
const EVERYWHERE = ['config', 'json', 'help', 'version', ...Object.keys(SETTING_FLAGS)]

type Values = ReturnType<typeof parse>['values']

function parse(argv: readonly string[]) {
  return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
}

/** Reads the arguments after the program's name. Throws a {@link SettingsError}. */
export function readCommand(argv: readonly string[]): Command {
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(argv)
  } catch (error) {
    throw new SettingsError(error instanceof Error ? error.message : String(error))
  }
  const { values, positionals } = parsed
  if (values.help === true || positionals[0] === 'help') return { command: 'help' }
  if (values.version === true || positionals[0] === 'version') return { command: 'version' }
  if (positionals.length === 0) throw new SettingsError('what is to be done? Try postern-gateway --help')
  const words = ['agents', 'services', 'sessions'].includes(positionals[0]!) ? 2 : 1
  const name = positionals.slice(0, words).join(' ')
  if (!COMMANDS.includes(name)) throw new SettingsError(`${JSON.stringify(positionals.slice(0, 2).join(' '))} is no command. Try postern-gateway --help`)
  checkOptions(name, values)
  return make(name, positionals.slice(words), values)
}

function checkOptions(name: string, values: Values): void {
  const taken = [...EVERYWHERE, ...(TAKES[name] ?? [])]
  const extra = Object.keys(values).find((option) => !taken.includes(option))
  if (extra !== undefined) throw new SettingsError(`${name} takes no --${extra}`)
}

function make(name: string, rest: readonly string[], values: Values): Command {
  const configured: Configured = { file: values.config, flags: flagsOf(values), json: values.json === true }
  const { host: hosts = [], prefix: prefixes = [], service: services = [] } = values
  const only = (what: string): string => {
    if (rest.length !== 1) throw new SettingsError(`${name} takes ${what}`)
    return rest[0]!
  }
  const none = (): void => {
    if (rest.length > 0) throw new SettingsError(`${name} takes no ${JSON.stringify(rest[0])}`)
  }
  switch (name) {
    case 'start':
    case 'check':
    case 'pipe':
    case 'agents list':
    case 'services list':
    case 'sessions list':
      none()
      return { command: name, ...configured }
    case 'nginx':
      none()
      if (values.out === undefined) throw new SettingsError('nginx needs --out DIR, the folder that nginx includes from')
      return { command: 'nginx', out: values.out, ...configured }
    case 'agents add':
      if (services.length === 0) throw new SettingsError('agents add needs --service NAME')
      if (prefixes.length > 0 && hosts.length === 0) throw new SettingsError('--prefix needs --host HOST')
      if ((hosts.length > 0 || prefixes.length > 0) && services.length > 1) throw new SettingsError('--host and --prefix go with one --service')
      return { command: name, id: only('one agent id'), services, hosts, prefixes, url: values.url, ...configured }
    case 'services add':
      if (hosts.length === 0) throw new SettingsError('services add needs --host HOST')
      return { command: name, name: only('one service name'), hosts, prefixes, conceal: values.conceal === true, trailers: values.trailers === true, ...configured }
    case 'agents remove':
    case 'services remove':
      return { command: name, name: only('one name'), ...configured }
    default:
      throw new SettingsError(`${JSON.stringify(name)} is no command. Try postern-gateway --help`)
  }
}

function flagsOf(values: Values): Flags {
  const flags: Partial<Record<SettingName, string>> = {}
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const value = (values as Readonly<Record<string, unknown>>)[flagOf(name)]
    if (typeof value === 'string') flags[name] = value
  }
  return flags
}

// The command line of `postern`, read strictly into what is to be done.
import { parseArgs } from 'node:util'
import { SettingsError } from './settings.ts'

export type Command =
  | { readonly command: 'help' | 'version' }
  | { readonly command: 'http'; readonly target: string; readonly names: readonly string[] | undefined; readonly hostHeader: string | undefined; readonly insecureOrigin: boolean } & Common
  | { readonly command: 'start'; readonly file: string } & Common
  | { readonly command: 'check'; readonly file: string }
  | { readonly command: 'diagnose'; readonly file: string | undefined } & Common
  | { readonly command: 'status' | 'whoami'; readonly json: boolean }

interface Common {
  readonly join: string | undefined
  readonly joinFile: string | undefined
  readonly policy: string | undefined
  readonly proxy: string | undefined
  readonly channel: string | undefined
  readonly gateway: string | undefined
  readonly pipe: string | undefined
  readonly connections: string | undefined
  readonly ca: string | undefined
  readonly pin: string | undefined
  readonly client_cert: string | undefined
  readonly client_key: string | undefined
  readonly once: boolean
  readonly json: boolean
}

export const HELP = `Publishes local HTTP services through a Postern gateway.

usage:
  postern http TARGET [options]     serve TARGET: 3000, host:9000, https://localhost:8443, unix:/path
  postern start -c FILE [options]   serve what FILE (postern.yaml) names
  postern check -c FILE             say whether FILE is right, and do nothing
  postern diagnose [options]        try every channel by every way to the gateway, and the join string; -c FILE counts too
  postern status                    what the agents of this user are doing
  postern whoami                    the services and domains they have, and their settings with where each came from

options:
  --join STRING        the join string; others can see it in the list of processes
  --join-file FILE     a file that holds it (POSTERN_JOIN_FILE; POSTERN_JOIN is the string itself)
  --service NAME       http: serve only this service of the agent's; may be repeated
  --host-header VALUE  http: what the origin sees as Host (default: what the visitor asked for)
  --insecure-origin    http: take any certificate of an https target
  --policy WORD        payload sealed: always (default), or never, if the gateway says so too (POSTERN_POLICY)
  --proxy URL          the way out: http://, https:// or socks5://[NAME:PASSWORD@]HOST:PORT, or direct (POSTERN_PROXY); if not said,
                       HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY count
  --channel KIND       auto (default: the best that works), websocket, http2, tcp, sse, long-poll or pipe (POSTERN_CHANNEL)
  --gateway URL        instead of the join string's: http[s]://HOST[/PREFIX], or tcp://HOST:PORT, tls://HOST:PORT (POSTERN_GATEWAY)
  --pipe COMMAND       the way out is a command's input and output, or a socket: unix:/PATH (POSTERN_PIPE)
  --connections N      channels at once, 1 (default) to 16, if the gateway grants them (POSTERN_CONNECTIONS)
  --ca FILE            over TLS, take the gateway by these authorities (PEM) instead of the system's (POSTERN_CA)
  --pin SHA256         over TLS, only a certificate with this public key, base64 or hex, more with commas between (POSTERN_PIN)
  --client-cert FILE   over TLS, show this certificate (POSTERN_CLIENT_CERT), whose key is in
  --client-key FILE    this file (POSTERN_CLIENT_KEY)
  --once               give up when the gateway can not be reached at the first try (exit code 4)
  --json               one JSON object a line, even on a terminal
  --help, --version

Flags go before the environment, that before the file. Without a join string \`postern http\` asks for it on a terminal.
The first SIGINT or SIGTERM lets requests under way finish (30 s), the second ends at once.
exit codes: 0 clean, 1 failure (diagnose: nothing works; status, whoami: no agent), 2 usage or configuration, 3 refused by the gateway, 4 unreachable (--once)
`

const COMMON = {
  join: { type: 'string' },
  'join-file': { type: 'string' },
  policy: { type: 'string' },
  proxy: { type: 'string' },
  channel: { type: 'string' },
  gateway: { type: 'string' },
  pipe: { type: 'string' },
  connections: { type: 'string' },
  ca: { type: 'string' },
  pin: { type: 'string' },
  'client-cert': { type: 'string' },
  'client-key': { type: 'string' },
  once: { type: 'boolean' },
  json: { type: 'boolean' },
} as const
const ONLY = { help: { type: 'boolean', short: 'h' }, version: { type: 'boolean', short: 'V' } } as const
const HTTP = { ...COMMON, ...ONLY, service: { type: 'string', multiple: true }, 'host-header': { type: 'string' }, 'insecure-origin': { type: 'boolean' } } as const
const START = { ...COMMON, ...ONLY, config: { type: 'string', short: 'c' } } as const
const STATUS = { ...ONLY, json: { type: 'boolean' } } as const
const CHECK = { ...ONLY, config: { type: 'string', short: 'c' } } as const

/** Reads the arguments after the program's name. Throws a {@link SettingsError}. */
export function readCommand(argv: readonly string[]): Command {
  const [name, ...rest] = argv
  if (name === undefined) throw new SettingsError('what is to be done? Try postern --help')
  if (name === '--help' || name === '-h' || name === 'help') return { command: 'help' }
  if (name === '--version' || name === '-V' || name === 'version') return { command: 'version' }
  try {
    if (name === 'http') return readHttp(rest)
    if (name === 'start') return readStart(rest)
    if (name === 'check') return readCheck(rest)
    if (name === 'diagnose') return readDiagnose(rest)
    if (name === 'status' || name === 'whoami') return readStatus(name, rest)
  } catch (error) {
    if (error instanceof SettingsError) throw error
    throw new SettingsError(error instanceof Error ? error.message : String(error))
  }
  throw new SettingsError(`${JSON.stringify(name)} is no command; there are http, start, check, diagnose, status and whoami`)
}

function readHttp(args: string[]): Command {
  const { values, positionals } = parseArgs({ args, options: HTTP, allowPositionals: true })
  if (values.help === true) return { command: 'help' }
  if (values.version === true) return { command: 'version' }
  const [target, ...more] = positionals
  if (target === undefined) throw new SettingsError('postern http needs a target: 3000, host:9000, https://localhost:8443 or unix:/path')
  if (more.length > 0) throw new SettingsError(`one target is served, not also ${JSON.stringify(more[0])}`)
  return { command: 'http', target, names: values.service, hostHeader: values['host-header'], insecureOrigin: values['insecure-origin'] === true, ...common(values) }
}

function readStart(args: string[]): Command {
  const { values } = parseArgs({ args, options: START })
  if (values.help === true) return { command: 'help' }
  if (values.version === true) return { command: 'version' }
  return { command: 'start', file: needFile(values.config), ...common(values) }
}

function readCheck(args: string[]): Command {
  const { values } = parseArgs({ args, options: CHECK })
  if (values.help === true) return { command: 'help' }
  if (values.version === true) return { command: 'version' }
  return { command: 'check', file: needFile(values.config) }
}

function readDiagnose(args: string[]): Command {
  const { values } = parseArgs({ args, options: START })
  if (values.help === true) return { command: 'help' }
  if (values.version === true) return { command: 'version' }
  return { command: 'diagnose', file: values.config, ...common(values) }
}

function readStatus(command: 'status' | 'whoami', args: string[]): Command {
  const { values } = parseArgs({ args, options: STATUS })
  if (values.help === true) return { command: 'help' }
  if (values.version === true) return { command: 'version' }
  return { command, json: values.json === true }
}

function needFile(file: string | undefined): string {
  if (file === undefined) throw new SettingsError('which file? -c postern.yaml')
  return file
}

type Values = { readonly [Option in keyof typeof COMMON]?: (typeof COMMON)[Option]['type'] extends 'boolean' ? boolean : string }

function common(values: Values): Common {
  const { join, policy, proxy, channel, gateway, pipe, connections, ca, pin } = values
  const trust = { ca, pin, client_cert: values['client-cert'], client_key: values['client-key'] }
  return { join, joinFile: values['join-file'], policy, proxy, channel, gateway, pipe, connections, ...trust, once: values.once === true, json: values.json === true }
}

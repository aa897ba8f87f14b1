// The gateway's settings: one table of names, units and bounds, read from flags, environment and file, in that order of precedence.
import { readFileSync } from 'node:fs'
import { parse, YAMLParseError } from 'yaml'
import { GATEWAY_BUDGET_BYTES, STREAMS_MAX_COUNT } from '../protocol/limits.ts'
import type { Policy } from '../protocol/messages.ts'
import type { Kept } from './store-history.ts'

/** Said wrong by whoever started the gateway: exit code 2. */
export class SettingsError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'SettingsError'
  }
}

interface Kind<T> {
  readonly otherwise: T
  /** What it is for, in the help. */
  readonly about: string
  /** Reads what somebody wrote; throws an Error that says what it should have been. */
  read(value: unknown): T
}

const text = <T>(otherwise: T, about: string, isRight: (value: string) => boolean, what: string): Kind<string | T> => ({
  otherwise,
  about,
  read: (value) => {
    if (typeof value !== 'string' || !isRight(value)) throw new Error(`it should be ${what}`)
    return value
  },
})

const whole = (otherwise: number, about: string, least: number, most: number): Kind<number> => ({
  otherwise,
  about,
  read: (value) => {
    const number = typeof value === 'string' && /^[0-9]{1,15}$/.test(value) ? Number(value) : value
    if (typeof number !== 'number' || !Number.isInteger(number) || number < least || number > most) throw new Error(`it should be a whole number from ${String(least)} to ${String(most)}`)
    return number
  },
})

/** What agents can dial: no query, no fragment; at a port of the gateway itself the port is said, and there is no path. */
export const GATEWAY_URL = /^(?:https?:\/\/[^\s/?#]+(?:\/[^\s?#]*)?|(?:tcp|tls):\/\/[^\s/?#@]+:[0-9]+)$/

export const isGatewayUrl = (value: string): boolean => GATEWAY_URL.test(value) && URL.canParse(value)

/** sun_path has 108 bytes with its end: what is left of them for the folder beside `/ingress-h2.sock`. */
const RUN_DIR_MAX_BYTES = 91

const PATH = /^\/[^\0]*$/
const isRunDir = (value: string): boolean => PATH.test(value) && Buffer.byteLength(value) <= RUN_DIR_MAX_BYTES

const ADDRESS = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/[\]]+)):([0-9]{1,5})$/
const isAddress = (value: string): boolean => ADDRESS.test(value) && addressOf(value).port < 65_536
const ADDRESS_WORDS = 'HOST:PORT, as 0.0.0.0:8442 or [::]:8442'

/** The parts of a HOST:PORT that was read as a setting. */
export function addressOf(address: string): { host: string; port: number } {
  const [, v6, other, port] = ADDRESS.exec(address)!
  return { host: v6 ?? other!, port: Number(port) }
}

const CONTROL_HOSTS_MAX_COUNT = 16
const CONTROL_HOST = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/

/** As a list in the file, with commas between them elsewhere. */
const controlHosts: Kind<readonly string[]> = {
  otherwise: [],
  about: 'hostnames that nginx serves the control server on, to whoever has a token',
  read: (value) => {
    const hosts: unknown[] = Array.isArray(value) ? value : typeof value === 'string' ? value.split(',').map((host) => host.trim()) : [value]
    const right = hosts.length <= CONTROL_HOSTS_MAX_COUNT && hosts.every((host): host is string => typeof host === 'string' && CONTROL_HOST.test(host))
    if (!right) throw new Error('it should be hostnames in lower case, as admin.example.com')
    return hosts
  },
}

const DAY_MS = 86_400_000

/** Every setting by its name in the file. `run_dir` is `--run-dir` as a flag and `POSTERN_RUN_DIR` in the environment. */
export const SETTINGS = {
  run_dir: text('/run/postern', 'sockets and route files', isRunDir, `an absolute path of at most ${String(RUN_DIR_MAX_BYTES)} bytes`),
  state_dir: text('/var/lib/postern', 'the store', (value) => PATH.test(value), 'an absolute path'),
  public_url: text(undefined, 'where agents find this gateway: goes into join strings', isGatewayUrl, 'an http or https URL, or tcp://HOST:PORT or tls://HOST:PORT'),
  control_hosts: controlHosts,
  agents_address: text(undefined, 'a port of the gateway’s own where agents come in, without TLS', isAddress, ADDRESS_WORDS),
  agents_tls_address: text(undefined, 'a port of the gateway’s own where agents come in, with TLS', isAddress, ADDRESS_WORDS),
  agents_tls_cert: text(undefined, 'the certificate for it, with its chain: a PEM file', (value) => PATH.test(value), 'an absolute path'),
  agents_tls_key: text(undefined, 'the certificate’s key: a PEM file', (value) => PATH.test(value), 'an absolute path'),
  agents_tls_client_ca: text(undefined, 'who signs the certificates that agents must show there: a PEM file; none are asked for without it', (value) => PATH.test(value), 'an absolute path'),
  socket_group: text(undefined, 'who may connect to the sockets for nginx, beside the gateway’s user', (value) => /^[A-Za-z_][A-Za-z0-9_-]*$/.test(value), 'the name of a group'),
  policy: {
    otherwise: 'always',
    about: 'payload between agent and gateway is sealed: always, or never (agents must say so too)',
    read: (value) => {
      if (value !== 'always' && value !== 'never') throw new Error('it should be always or never')
      return value
    },
  } as Kind<Policy>,
  heartbeat_ms: whole(10_000, 'a sign of life is asked for on every channel this often', 100, 60_000),
  dead_after_ms: whole(25_000, 'a channel over which nothing came for so long is dead', 200, 180_000),
  grace_ms: whole(30_000, 'a session without a channel waits so long for another', 0, 600_000),
  handshake_ms: whole(10_000, 'a login takes no longer', 100, 60_000),
  head_timeout_ms: whole(60_000, 'from the end of a request to the head of its answer', 100, DAY_MS),
  agent_wait_ms: whole(5_000, 'a request waits so long for an agent that is coming back', 0, 60_000),
  drain_ms: whole(30_000, 'requests under way may take so long when the gateway leaves', 0, DAY_MS),
  budget_bytes: whole(GATEWAY_BUDGET_BYTES, 'memory that windows and held bodies may use together', 1_048_576, 2 ** 40),
  lanes_max_count: whole(4, 'lanes that a session may have', 1, 16),
  streams_max_count: whole(STREAMS_MAX_COUNT, 'streams that an agent may open at once', 1, STREAMS_MAX_COUNT),
  history_kept_days: whole(90, 'the history is kept so long', 1, 3_650),
  history_max_bytes: whole(67_108_864, 'what the history may take in the store: the oldest goes first', 1_048_576, 2 ** 40),
  exchanges_kept_hours: whole(24, 'recent exchanges are kept so long', 1, 8_760),
  exchanges_max_bytes: whole(33_554_432, 'what they may take in the store', 1_048_576, 2 ** 40),
} as const

export type SettingName = keyof typeof SETTINGS
export type Settings = { readonly [Name in SettingName]: ReturnType<(typeof SETTINGS)[Name]['read']> }

const NAMES = Object.keys(SETTINGS) as SettingName[]
/** A file of every setting with comments stays below this. */
const FILE_MAX_BYTES = 1_048_576

export const flagOf = (name: SettingName): string => name.replaceAll('_', '-')

/** Puts the settings together. `flags` holds what was said on the command line, by setting's name. Throws a {@link SettingsError}. */
export function readSettings(flags: Readonly<Partial<Record<SettingName, string>>>, env: Readonly<Record<string, string | undefined>>, file: string | undefined): Settings {
  const inFile = file === undefined ? {} : readFile(file)
  const settings: Partial<Record<SettingName, unknown>> = {}
  for (const name of NAMES) {
    const variable = `POSTERN_${name.toUpperCase()}`
    const [value, where] =
      flags[name] !== undefined ? [flags[name], `--${flagOf(name)}`] : env[variable] !== undefined ? [env[variable], variable] : [inFile[name], `${file ?? ''}: ${name}`]
    settings[name] = value === undefined || value === null ? SETTINGS[name].otherwise : read(name, value, where)
  }
  return agreeing(settings as Settings)
}

/** A channel that is dead before a sign of life is due never lives, and there is no TLS without a certificate. */
function agreeing(settings: Settings): Settings {
  const { heartbeat_ms, dead_after_ms, agents_tls_address, agents_tls_cert, agents_tls_key } = settings
  if (agents_tls_address !== undefined && (agents_tls_cert === undefined || agents_tls_key === undefined)) throw new SettingsError('agents_tls_address needs agents_tls_cert and agents_tls_key')
  if (dead_after_ms <= heartbeat_ms) throw new SettingsError(`dead_after_ms: ${String(dead_after_ms)} should be more than heartbeat_ms, which is ${String(heartbeat_ms)}`)
  return settings
}

const HOUR_MS = 3_600_000

export function keptOf({ history_kept_days, history_max_bytes, exchanges_kept_hours, exchanges_max_bytes }: Settings): Kept {
  return { history: { ms: history_kept_days * DAY_MS, bytes: history_max_bytes }, exchanges: { ms: exchanges_kept_hours * HOUR_MS, bytes: exchanges_max_bytes } }
}

function read(name: SettingName, value: unknown, where: string): unknown {
  try {
    return SETTINGS[name].read(value)
  } catch (error) {
    throw new SettingsError(`${where}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function readFile(path: string): Record<string, unknown> {
  let source: string
  try {
    source = readFileSync(path, 'utf8')
  } catch (error) {
    throw new SettingsError(`${path}: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (source.length > FILE_MAX_BYTES) throw new SettingsError(`${path}: too large for a configuration`)
  let parsed: unknown
  try {
    parsed = parse(source, { maxAliasCount: 0 })
  } catch (error) {
    throw new SettingsError(`${path}: ${error instanceof YAMLParseError ? error.message : 'aliases are not allowed'}`)
  }
  if (parsed === null) return {}
  if (typeof parsed !== 'object' || Array.isArray(parsed)) throw new SettingsError(`${path}: it holds no settings`)
  for (const key of Object.keys(parsed)) {
    if (!Object.hasOwn(SETTINGS, key)) throw new SettingsError(`${path}: ${key} is no setting${suggest(key)}`)
  }
  return parsed as Record<string, unknown>
}

/** The setting that was meant, if one is near. */
function suggest(key: string): string {
  const nearest = NAMES.map((name) => ({ name, far: distance(key, name) })).sort((a, b) => a.far - b.far)[0]!
  return nearest.far <= 3 ? `; did you mean ${nearest.name}?` : `; there are ${NAMES.join(', ')}`
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_value, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}

/** The number of a group. Throws a {@link SettingsError} when there is none of the name. */
export function groupId(name: string): number {
  const entry = readFileSync('/etc/group', 'utf8').split('\n').map((line) => line.split(':')).find((fields) => fields[0] === name)
  if (entry === undefined || !/^[0-9]+$/.test(entry[2] ?? '')) throw new SettingsError(`socket_group: there is no group ${name}`)
  return Number(entry[2])
}

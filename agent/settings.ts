// What an agent is told to serve: postern.yaml, read strictly, and the options of the command line put on top of it.
import { readFileSync } from 'node:fs'
import { parse, YAMLParseError } from 'yaml'
import type { HealthCheck } from '../protocol/control.ts'
import { LANES_MAX_COUNT } from '../protocol/limits.ts'
import type { Policy } from '../protocol/messages.ts'
import type { OriginOptions } from './origin.ts'
import { parseTarget } from './target.ts'

/** Said wrong by whoever started the agent: exit code 2. */
export class SettingsError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'SettingsError'
  }
}

/** postern.yaml, checked. */
export interface AgentFile {
  readonly join: string | undefined
  readonly joinFile: string | undefined
  readonly policy: Policy | undefined
  readonly proxy: string | undefined
  readonly channel: string | undefined
  readonly gateway: string | undefined
  readonly pipe: string | undefined
  readonly connections: number | undefined
  readonly ca: string | undefined
  /** With commas between, where there are more. */
  readonly pin: string | undefined
  readonly client_cert: string | undefined
  readonly client_key: string | undefined
  readonly services: ReadonlyMap<string, OriginOptions>
  /** Targets that the gateway may suggest for services that the file does not name. */
  readonly targets: readonly OriginOptions[]
}

const TOP = [
  'join', 'join_file', 'policy', 'proxy', 'channel', 'gateway', 'pipe', 'connections', 'ca', 'pin', 'client_cert', 'client_key',
  'host_header', 'insecure_origin', 'services', 'targets',
] as const
const SERVICE = ['target', 'host_header', 'insecure_origin', 'health'] as const
const TARGETS_MAX_COUNT = 1_000
const SERVICE_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/
/** A configuration of thousands of services stays below this. */
const FILE_MAX_BYTES = 1_048_576
const HOST = /^[\x21-\x7e]+$/

/** Reads and checks a file. Throws a {@link SettingsError} that names file and key. */
export function readAgentFile(path: string, platform: NodeJS.Platform): AgentFile {
  const wrong = (message: string): SettingsError => new SettingsError(`${path}: ${message}`)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw wrong(error instanceof Error ? error.message : String(error))
  }
  if (text.length > FILE_MAX_BYTES) throw wrong('too large for a configuration')
  let parsed: unknown
  try {
    parsed = parse(text, { maxAliasCount: 0 })
  } catch (error) {
    throw wrong(error instanceof YAMLParseError ? error.message : 'aliases are not allowed')
  }
  const top = mapping(parsed, TOP, '', wrong)
  const services = new Map<string, OriginOptions>()
  const named = top.services ?? {}
  if (typeof named !== 'object' || Array.isArray(named)) throw wrong('`services` must name each service and its target')
  for (const [name, value] of Object.entries(named)) {
    const key = `services.${name}`
    if (!SERVICE_NAME.test(name)) throw wrong(`\`${key}\`: a service's name is of a-z, 0-9 and -`)
    const service = typeof value === 'object' && value !== null ? mapping(value, SERVICE, `${key}.`, wrong) : { target: value as unknown }
    const target = service.target
    if (typeof target !== 'string' && typeof target !== 'number') throw wrong(`\`${key}\` has no target`)
    try {
      services.set(name, {
        target: parseTarget(String(target), platform),
        hostHeader: host(service.host_header ?? top.host_header),
        verifyTls: !flag(service.insecure_origin ?? top.insecure_origin),
        health: readHealth(service.health),
      })
    } catch (error) {
      throw wrong(`\`${key}\`: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  const targets = readTargets(top, platform, wrong)
  if (services.size === 0 && targets.length === 0) throw wrong('`services` is empty, and so is `targets`: there is nothing to serve')
  const policy = readPolicy(optionalText(top.policy, 'policy', wrong))
  return {
    join: optionalText(top.join, 'join', wrong),
    joinFile: optionalText(top.join_file, 'join_file', wrong),
    policy,
    proxy: optionalText(top.proxy, 'proxy', wrong),
    channel: optionalText(top.channel, 'channel', wrong),
    gateway: optionalText(top.gateway, 'gateway', wrong),
    ca: optionalText(top.ca, 'ca', wrong),
    pin: optionalText(top.pin, 'pin', wrong),
    client_cert: optionalText(top.client_cert, 'client_cert', wrong),
    client_key: optionalText(top.client_key, 'client_key', wrong),
    pipe: optionalText(top.pipe, 'pipe', wrong),
    connections: top.connections === undefined ? undefined : readConnections(top.connections),
    services,
    targets,
  }
}

function readTargets(top: Partial<Record<string, unknown>>, platform: NodeJS.Platform, wrong: (message: string) => Error): OriginOptions[] {
  const { targets = [] } = top
  if (!Array.isArray(targets) || targets.length > TARGETS_MAX_COUNT) throw wrong(`\`targets\` is no list of at most ${String(TARGETS_MAX_COUNT)} targets`)
  return targets.map((typed: unknown, at) => {
    try {
      return { target: parseTarget(String(typed), platform), hostHeader: host(top.host_header), verifyTls: !flag(top.insecure_origin) }
    } catch (error) {
      throw wrong(`\`targets\`, number ${String(at + 1)}: ${error instanceof Error ? error.message : String(error)}`)
    }
  })
}

/** In the order of a file's keys, what each may be. */
const HEALTH = {
  kind: (value: unknown) => value === 'http' || value === 'tcp',
  path: (value: unknown) => typeof value === 'string' && /^\/[\x21-\x7e]*$/.test(value),
  interval_ms: isWhole(100, 3_600_000),
  timeout_ms: isWhole(50, 60_000),
  unhealthy_after: isWhole(1, 100),
  healthy_after: isWhole(1, 100),
} as const

function isWhole(from: number, to: number): (value: unknown) => boolean {
  return (value) => Number.isInteger(value) && (value as number) >= from && (value as number) <= to
}

/** Checks how a service's origin is to be asked whether it is well; `false`: not at all, whatever the gateway says. */
function readHealth(value: unknown): HealthCheck | 'none' | undefined {
  if (value === undefined) return undefined
  if (value === false) return 'none'
  const wrong = (message: string): SettingsError => new SettingsError(message)
  const health = mapping(value, Object.keys(HEALTH) as (keyof typeof HEALTH)[], 'health.', wrong)
  for (const [key, is] of Object.entries(HEALTH)) {
    const said = health[key as keyof typeof HEALTH]
    if (!is(said) && (said !== undefined || key === 'kind')) throw wrong(`\`health.${key}\` is ${key === 'kind' ? 'http or tcp' : 'out of its range'}`)
  }
  return health as unknown as HealthCheck
}

function mapping<Key extends string>(value: unknown, keys: readonly Key[], prefix: string, wrong: (message: string) => Error): Partial<Record<Key, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(prefix === '' ? 'it holds no settings' : `\`${prefix.slice(0, -1)}\` is no mapping`)
  for (const key of Object.keys(value)) {
    if (!(keys as readonly string[]).includes(key)) throw wrong(`\`${prefix}${key}\` is no setting; there are ${keys.join(', ')}`)
  }
  return value
}

function optionalText(value: unknown, key: string, wrong: (message: string) => Error): string | undefined {
  if (value !== undefined && (typeof value !== 'string' || value === '')) throw wrong(`\`${key}\` is no text`)
  return value
}

/** Checks whether payload is sealed. */
export function readPolicy(word: string | undefined): Policy | undefined {
  if (word !== undefined && word !== 'always' && word !== 'never') throw new SettingsError('policy is always or never')
  return word
}

/** Checks how many channels there are to be at once. */
export function readConnections(value: unknown): number {
  const count = typeof value === 'string' && /^[0-9]+$/.test(value) ? Number(value) : value
  if (typeof count !== 'number' || !Number.isInteger(count) || count < 1 || count > LANES_MAX_COUNT) throw new SettingsError(`connections is a number from 1 to ${String(LANES_MAX_COUNT)}`)
  return count
}

/** Checks what the origin is to see as Host. */
export function host(value: unknown): string | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'string' || !HOST.test(value)) throw new SettingsError('host_header is no host')
  return value
}

function flag(value: unknown): boolean {
  if (value !== undefined && typeof value !== 'boolean') throw new SettingsError('insecure_origin is true or false')
  return value === true
}

#!/usr/bin/env node
// The command `postern`: reads arguments, environment and file, runs an agent, and ends with a code that says how it went.
import { readFileSync } from 'node:fs'
import os from 'node:os'
import { join as joinPath } from 'node:path'
import { Agent, type AgentOptions } from './agent.ts'
import { checkGateway, listCandidates, listEverything, type Wishes } from './candidates.ts'
import { type Command, HELP, readCommand } from './command.ts'
import { Rows, tryAll, tryLogin, verdict } from './diagnose.ts'
import { processEnvironment } from './environment.ts'
import type { AgentEvent } from './events.ts'
import { askForJoin, findJoin, readJoin } from './join-source.ts'
import type { Services } from './offering.ts'
import type { OriginOptions } from './origin.ts'
import type { OwnSettings } from './pushed.ts'
import { jsonLine, type Reported, safe, textLines } from './report.ts'
import { type AgentFile, host, readAgentFile, readConnections, readPolicy, SettingsError } from './settings.ts'
import { answerStatus, askAgents, type SocketPlace, socketPlace } from './status-socket.ts'
import { readTrust } from './trust.ts'
import { type StatusDocument, statusLines } from './status-text.ts'
import { parseTarget } from './target.ts'
import { whoamiLines } from './whoami-text.ts'
import type { ErrorCode } from '../protocol/errors.ts'
import type { Join } from '../protocol/join.ts'
import { INSTANCE_ID_BYTES, type Policy } from '../protocol/messages.ts'

const Exit = { clean: 0, failure: 1, usage: 2, refused: 3, unreachable: 4 } as const
/** The same failure of the same origin is told again after this, not for every visitor. */
const ORIGIN_REPORT_MS = 10_000

type Running = Extract<Command, { command: 'http' | 'start' }>
type Connecting = Extract<Command, { command: 'http' | 'start' | 'diagnose' }>

let json = process.stdout.isTTY !== true

function report(reported: Reported): void {
  process.stdout.write(`${lineOf(reported, json)}\n`)
}

function complain(reported: Reported): void {
  const inJson = json && process.stderr.isTTY !== true
  process.stderr.write(`${inJson ? '' : 'postern: '}${lineOf(reported, inJson)}\n`)
}

const lineOf = (reported: Reported, inJson: boolean): string => (inJson ? jsonLine(new Date().toISOString(), reported) : textLines(reported))

function version(): string {
  // One folder up in the repository, two in the package.
  for (const up of ['../package.json', '../../package.json']) {
    try {
      const parsed = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { name?: string; version?: string }
      if (parsed.name === 'postern' && parsed.version !== undefined) return parsed.version
    } catch {
      continue
    }
  }
  return 'unknown'
}

async function main(): Promise<number> {
  const command = readCommand(process.argv.slice(2))
  switch (command.command) {
    case 'help':
      process.stdout.write(HELP)
      return Exit.clean
    case 'version':
      process.stdout.write(`${version()}\n`)
      return Exit.clean
    case 'check':
      checkFile(readAgentFile(command.file, process.platform))
      process.stdout.write(`${command.file} is right\n`)
      return Exit.clean
    case 'http':
    case 'start':
      if (command.json) json = true
      return run(command)
    case 'diagnose':
      return diagnose(command)
    case 'status':
      return ask(command.json, statusLines)
    case 'whoami':
      return ask(command.json, whoamiLines)
  }
}

/** What only a start would find: whether the words for the way out mean anything. */
function checkFile({ channel, gateway, pipe, proxy }: AgentFile): void {
  listCandidates({ gateway: checkGateway(gateway ?? 'https://localhost'), channel, pipe, proxy }, {})
}

async function run(command: Running): Promise<number> {
  // Where the system lets a process change what others see of its arguments, the join string goes.
  process.title = `postern ${command.command}`
  const file = command.command === 'start' ? readAgentFile(command.file, process.platform) : undefined
  const services: Services = command.command === 'http' ? httpServices(command) : { each: withReports(file!.services), permitted: file!.targets.map(withReport) }
  const join = await joinOf(command, file)
  if (join === undefined) return Exit.usage
  const { own, policy, wishes } = settingsOf(command, file, join)
  const candidates = listCandidates(wishes, process.env)
  // Whoever leaves no choice has nothing to remember, nor to forget.
  return serve({ join: { ...join, url: wishes.gateway }, services, policy, own, candidates, memoryFile: candidates.length > 1 ? memoryFile() : undefined }, command.once)
}

/** Flags before the environment before the file. */
function settingsOf(command: Connecting, file: AgentFile | undefined, join: Join): { own: OwnSettings; policy: Policy | undefined; wishes: Wishes } {
  const own: { -readonly [Name in keyof OwnSettings]: OwnSettings[Name] } = {}
  for (const name of ['gateway', 'channel', 'pipe', 'proxy', 'connections', 'policy', 'ca', 'pin', 'client_cert', 'client_key'] as const) {
    const sources = { flag: command[name], environment: process.env[`POSTERN_${name.toUpperCase()}`], file: file?.[name]?.toString() }
    for (const source of ['flag', 'environment', 'file'] as const) {
      const value = sources[source]
      if (value !== undefined && own[name] === undefined) own[name] = { value, source }
    }
  }
  if (own.connections !== undefined) readConnections(own.connections.value)
  const gateway = checkGateway(own.gateway?.value ?? join.url)
  const trust = readTrust({ ca: own.ca?.value, pin: own.pin?.value, client_cert: own.client_cert?.value, client_key: own.client_key?.value }, gateway)
  const wishes = { gateway, trust, channel: own.channel?.value, pipe: own.pipe?.value, proxy: own.proxy?.value }
  return { own: shown(own), policy: readPolicy(own.policy?.value), wishes }
}

/** A proxy's URL may hold a name and a password, which nobody is shown. */
function shown(own: OwnSettings): OwnSettings {
  return own.proxy === undefined ? own : { ...own, proxy: { ...own.proxy, value: own.proxy.value.replace(/\/\/[^/@]*@/, '//') } }
}

function httpServices(command: Extract<Command, { command: 'http' }>): Services {
  const every = withReport({ target: parseTarget(command.target, process.platform), hostHeader: host(command.hostHeader), verifyTls: !command.insecureOrigin })
  return command.names === undefined ? { every } : { every, names: command.names }
}

async function joinOf(command: Connecting, file: AgentFile | undefined): Promise<Join | undefined> {
  // What a diagnosis prints is its table, or one JSON document.
  const warn = (detail: string): void => (command.command === 'diagnose' ? complain : report)({ event: 'warning', detail })
  if (command.join !== undefined) {
    warn('others on this machine can see --join in the list of processes while this runs; POSTERN_JOIN_FILE or --join-file keeps it to you')
  }
  const { POSTERN_JOIN: environment, POSTERN_JOIN_FILE: environmentFile } = process.env
  const sources = { flag: command.join, flagFile: command.joinFile, environment, environmentFile, setting: file?.join, settingFile: file?.joinFile }
  const join = findJoin(sources, process.platform, warn)
  // What runs on from here, and whatever it starts, needs it no more.
  delete process.env.POSTERN_JOIN
  if (join !== undefined) return join
  if (command.command === 'start' || process.stdin.isTTY !== true || process.stdout.isTTY !== true) {
    throw new SettingsError('no join string: give --join-file, POSTERN_JOIN_FILE or POSTERN_JOIN')
  }
  const answer = await askForJoin(process.stdin, process.stdout)
  return answer === undefined ? undefined : readJoin(answer)
}

function withReports(each: ReadonlyMap<string, OriginOptions>): Map<string, OriginOptions> {
  return new Map([...each].map(([name, options]) => [name, withReport(options)]))
}

function withReport(options: OriginOptions): OriginOptions {
  const told = new Map<ErrorCode, number>()
  const onTrouble = (code: ErrorCode, detail: string): void => {
    const now = performance.now()
    if (now - (told.get(code) ?? -Infinity) < ORIGIN_REPORT_MS) return
    told.set(code, now)
    report({ event: 'origin_failed', target: options.target.text, code: code.name, detail })
  }
  return { ...options, onTrouble }
}

/** Where what worked is kept, as each system has it. */
function memoryFile(): string {
  const { LOCALAPPDATA, XDG_STATE_HOME } = process.env
  const states = process.platform === 'win32' ? LOCALAPPDATA : XDG_STATE_HOME
  return joinPath(states === undefined || states === '' ? joinPath(os.homedir(), '.local', 'state') : states, 'postern', 'ways.json')
}

/** Where the agents of this user tell what they do. */
function statusPlace(): SocketPlace {
  const user = process.getuid === undefined ? os.userInfo().username : String(process.getuid())
  return socketPlace({ platform: process.platform, runtimeDir: process.env.XDG_RUNTIME_DIR, temporary: os.tmpdir(), user })
}

async function ask(inJson: boolean, linesOf: (document: StatusDocument) => string[]): Promise<number> {
  const documents = (await askAgents(statusPlace())) as StatusDocument[]
  if (inJson) process.stdout.write(`${JSON.stringify(documents)}\n`)
  else if (documents.length === 0) process.stdout.write('no agent of this user runs here\n')
  else process.stdout.write(`${documents.flatMap(linesOf).join('\n')}\n`)
  return documents.length === 0 ? Exit.failure : Exit.clean
}

async function diagnose(command: Extract<Command, { command: 'diagnose' }>): Promise<number> {
  const file = command.file === undefined ? undefined : readAgentFile(command.file, process.platform)
  const join = await joinOf(command, file)
  if (join === undefined) return Exit.usage
  const { policy, wishes } = settingsOf(command, file, join)
  const racer = { environment: processEnvironment(), userAgent: `postern/${version()}` }
  const { channel = 'auto' } = wishes
  const all = channel === 'auto' ? listEverything(wishes, process.env) : listCandidates(wishes, process.env)
  const say = (line: string): void => void (command.json || process.stdout.write(`${safe(line)}\n`))
  const rows = new Rows(all)
  say(rows.head)
  const tries = await tryAll(all, racer, (tried) => say(rows.row(tried)))
  const best = all[tries.findIndex(({ works }) => works)]
  const login = best === undefined ? undefined : await tryLogin(best, racer, { join, policy, instance: racer.environment.random(INSTANCE_ID_BYTES), lanes: 1 })
  say(verdict(best, login))
  if (command.json) process.stdout.write(`${JSON.stringify({ gateway: wishes.gateway, tries, login: login ?? null })}\n`)
  if (login?.result === 'refused') return Exit.refused
  return login?.result === 'taken' ? Exit.clean : Exit.failure
}

function serve(options: Pick<AgentOptions, 'join' | 'services' | 'policy' | 'own' | 'candidates' | 'memoryFile'>, once: boolean): Promise<number> {
  return new Promise((resolve) => {
    let code: number = Exit.clean
    let served = false
    const onEvent = (event: AgentEvent): void => {
      report(event)
      if (event.event === 'serving' || event.event === 'nothing_to_serve') served = true
      else if (event.event === 'refused') code = Exit.refused
      else if (event.event === 'failed' && once && !served) {
        code = Exit.unreachable
        void agent.close()
      } else if (event.event === 'closed') {
        stopAnswering()
        resolve(code)
      }
    }
    const agent = new Agent({ ...options, environment: processEnvironment(), userAgent: `postern/${version()}`, onEvent })
    const { id, url } = options.join
    const stopAnswering = answerStatus(statusPlace(), String(process.pid), (): StatusDocument => {
      const now = agent.now
      const since = now.age_ms === null ? null : new Date(Date.now() - now.age_ms).toISOString()
      return { pid: process.pid, version: version(), agent: id, gateway: url, since, ...now }
    })
    // A second signal leaves no time to close anything; the socket goes all the same.
    process.once('exit', stopAnswering)
    let signals = 0
    const signalled = (): void => {
      if (++signals === 1) void agent.drain()
      // Requests break, and whoever looks at the code is to know.
      else process.exit(Exit.failure)
    }
    // Windows knows SIGINT and SIGBREAK only; listening for the other harms nobody there.
    for (const signal of ['SIGINT', 'SIGTERM', ...(process.platform === 'win32' ? (['SIGBREAK'] as const) : [])] as const) process.on(signal, signalled)
    void agent.start()
  })
}

function failed(error: unknown): number {
  complain({ event: 'error', detail: error instanceof Error ? error.message : String(error) })
  const usage = error instanceof SettingsError || (error instanceof Error && error.name === 'TargetError')
  return usage ? Exit.usage : Exit.failure
}

// Whoever read what we say may leave (`postern http 3000 | head`): visitors are served on.
process.stdout.on('error', () => undefined)

process.exitCode = await main().catch(failed)

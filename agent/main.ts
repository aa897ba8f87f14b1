#!/usr/bin/env node
// The command `postern`: reads arguments, environment and file, runs an agent, and ends with a code that says how it went.
import { readFileSync } from 'node:fs'
import { Agent, type AgentEvent, type AgentOptions } from './agent.ts'
import { type Command, HELP, readCommand } from './command.ts'
import { processEnvironment } from './environment.ts'
import { askForJoin, findJoin, readJoin } from './join-source.ts'
import type { Services } from './offering.ts'
import type { OriginOptions } from './origin.ts'
import { jsonLine, type Reported, textLines } from './report.ts'
import { host, readAgentFile, readPolicy, SettingsError } from './settings.ts'
import { parseTarget } from './target.ts'
import { dialTcp } from './tcp.ts'
import { readWay, type Way, wayFromEnvironment } from './way.ts'
import type { Dial } from './channel-dial.ts'
import { dialWebsocket } from './websocket.ts'
import type { ErrorCode } from '../protocol/errors.ts'
import type { Join } from '../protocol/join.ts'

const Exit = { clean: 0, failure: 1, usage: 2, refused: 3, unreachable: 4 } as const
/** The same failure of the same origin is told again after this, not for every visitor. */
const ORIGIN_REPORT_MS = 10_000

type Running = Extract<Command, { command: 'http' | 'start' }>

let json = process.stdout.isTTY !== true

function report(reported: Reported): void {
  const line = json ? jsonLine(new Date().toISOString(), reported) : textLines(reported)
  process.stdout.write(`${line}\n`)
}

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
      readAgentFile(command.file, process.platform)
      process.stdout.write(`${command.file} is right\n`)
      return Exit.clean
    case 'http':
    case 'start':
      if (command.json) json = true
      return run(command)
  }
}

async function run(command: Running): Promise<number> {
  // Where the system lets a process change what others see of its arguments, the join string goes.
  process.title = `postern ${command.command}`
  const file = command.command === 'start' ? readAgentFile(command.file, process.platform) : undefined
  const services: Services = command.command === 'http' ? httpServices(command) : { each: withReports(file!.services) }
  if (command.join !== undefined) {
    report({ event: 'warning', detail: 'others on this machine can see --join in the list of processes while this runs; POSTERN_JOIN_FILE or --join-file keeps it to you' })
  }
  const join = await joinOf(command, file)
  if (join === undefined) return Exit.usage
  const policy = readPolicy(command.policy ?? process.env.POSTERN_POLICY) ?? file?.policy
  const way = wayOf(command.proxy ?? process.env.POSTERN_PROXY ?? file?.proxy, join)
  return serve({ join, services, policy, way, dial: dialOf(command.channel ?? process.env.POSTERN_CHANNEL ?? file?.channel) }, command.once)
}

function httpServices(command: Extract<Command, { command: 'http' }>): Services {
  const every = withReport({ target: parseTarget(command.target, process.platform), hostHeader: host(command.hostHeader), verifyTls: !command.insecureOrigin })
  return command.names === undefined ? { every } : { every, names: command.names }
}

async function joinOf(command: Running, file: { join: string | undefined; joinFile: string | undefined } | undefined): Promise<Join | undefined> {
  const { POSTERN_JOIN: environment, POSTERN_JOIN_FILE: environmentFile } = process.env
  const sources = { flag: command.join, flagFile: command.joinFile, environment, environmentFile, setting: file?.join, settingFile: file?.joinFile }
  const join = findJoin(sources, process.platform, (detail) => report({ event: 'warning', detail }))
  // What runs on from here, and whatever it starts, needs it no more.
  delete process.env.POSTERN_JOIN
  if (join !== undefined) return join
  if (command.command !== 'http' || process.stdin.isTTY !== true || process.stdout.isTTY !== true) {
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

const wayOf = (proxy: string | undefined, join: Join): Way => (proxy === undefined ? wayFromEnvironment(join.url, process.env) : readWay(proxy, 'proxy'))

const CHANNELS: Readonly<Record<string, Dial>> = { websocket: dialWebsocket, tcp: dialTcp }

function dialOf(channel: string | undefined): Dial {
  const dial = CHANNELS[channel ?? 'websocket']
  if (dial === undefined) throw new SettingsError(`${JSON.stringify(channel)} is no channel; there are ${Object.keys(CHANNELS).join(' and ')}`)
  return dial
}

function serve(options: Pick<AgentOptions, 'join' | 'services' | 'policy' | 'way' | 'dial'>, once: boolean): Promise<number> {
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
      } else if (event.event === 'closed') resolve(code)
    }
    const agent = new Agent({ ...options, environment: processEnvironment(), userAgent: `postern/${version()}`, onEvent })
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
  const detail = error instanceof Error ? error.message : String(error)
  process.stderr.write(`${json && process.stderr.isTTY !== true ? jsonLine(new Date().toISOString(), { event: 'error', detail }) : `postern: ${textLines({ event: 'error', detail })}`}\n`)
  const usage = error instanceof SettingsError || (error instanceof Error && error.name === 'TargetError')
  return usage ? Exit.usage : Exit.failure
}

// Whoever read what we say may leave (`postern http 3000 | head`): visitors are served on.
process.stdout.on('error', () => undefined)

process.exitCode = await main().catch(failed)

#!/usr/bin/env node
// The command `postern-gateway`: reads arguments, environment and file, runs a gateway or manages one, and ends with a code that says how it went.
import { readFileSync } from 'node:fs'
import { readPem } from './certificate.ts'
import { type Command, HELP, readCommand } from './command.ts'
import { completion } from './completion.ts'
import { UnreachableError, withControl } from './control-client.ts'
import type { Out } from './exchange-tail.ts'
import { Log } from './log.ts'
import { isManaging, manage } from './manage.ts'
import { writeNginxFiles } from './nginx-files.ts'
import { pipe } from './pipe.ts'
import { groupId, readSettings, type Settings, SettingsError } from './settings.ts'
import { inherited } from './sockets.ts'

const Exit = { clean: 0, failure: 1, usage: 2, unreachable: 4 } as const

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

const log = new Log({ words: process.stdout.isTTY === true, now: () => new Date().toISOString(), write: (line) => void process.stdout.write(line) })

const OUT: Out = {
  print: (text) => new Promise((resolve) => void process.stdout.write(text, (error) => resolve(error === undefined || error === null))),
  remark: (text) => void process.stderr.write(`postern-gateway: ${text}`),
}

async function main(): Promise<number> {
  const command = readCommand(process.argv.slice(2))
  if (command === 'help') return print(HELP)
  if (command === 'version') return print(`${version()}\n`)
  const { command: name } = command
  if (name === 'completion') return print(completion(command.args[0] as 'bash' | 'zsh'))
  const settings = readSettings(command.flags, process.env, command.file ?? process.env.POSTERN_CONFIG)
  if (isManaging(name)) return print(await withControl(settings, version(), (control) => manage(name, command, control, OUT)))
  switch (name) {
    case 'start':
      return start(settings)
    case 'check':
      return check(settings)
    case 'pipe':
      await pipe(settings.run_dir, process.stdin, process.stdout)
      return Exit.clean
    case 'nginx':
      return print(`${writeNginxFiles(command.given.out!, settings.run_dir).join('\n')}\n`)
  }
}

function print(text: string): number {
  process.stdout.write(text)
  return Exit.clean
}

function check(settings: Settings): number {
  if (settings.socket_group !== undefined) groupId(settings.socket_group)
  const { agents_tls_cert: cert, agents_tls_client_ca: clientCa, agents_tls_key: key } = settings
  if (cert !== undefined && key !== undefined) readPem({ cert, key, clientCa })
  const lines = Object.entries(settings).map(([name, value]) => `${name}: ${value === undefined ? '(not set)' : String(value)}`)
  return print(`${lines.join('\n')}\n`)
}

async function start(settings: Settings): Promise<number> {
  const { runGateway } = await import('./run.ts')
  const fds = inherited(process.env, process.pid)
  let fatal: (error: Error) => void = () => undefined
  const died = new Promise<number>((resolve) => {
    fatal = (error) => {
      log.error('fatal', { detail: error.message })
      resolve(Exit.failure)
    }
  })
  const started = runGateway({ settings, version: version(), fds, log, onFatal: (error) => fatal(error) })
  const left = new Promise<number>((resolve) => {
    let signals = 0
    const signalled = (): void => {
      // Requests break, and whoever looks at the code is to know.
      if (++signals > 1) process.exit(Exit.failure)
      const unstopped = (error: unknown): void => fatal(error instanceof Error ? error : new Error(String(error)))
      // One that can't start says so itself.
      started.then((gateway) => gateway.stop().then(() => resolve(Exit.clean), unstopped), () => undefined)
    }
    // Before it has said that it is ready: whoever reads that may stop it at once.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, signalled)
  })
  await started
  return Promise.race([left, died])
}

function failed(error: unknown, command: Command | 'help' | 'version' | undefined): number {
  const detail = error instanceof Error ? error.message : String(error)
  if (typeof command === 'object' && command.command === 'start') log.error('not_started', { detail })
  else process.stderr.write(`postern-gateway: ${detail.replace(/[\p{Cc}\p{Cf}]/gu, ' ')}\n`)
  if (error instanceof SettingsError) return Exit.usage
  return error instanceof UnreachableError ? Exit.unreachable : Exit.failure
}

function commandOrNothing(): Command | 'help' | 'version' | undefined {
  try {
    return readCommand(process.argv.slice(2))
  } catch {
    return undefined
  }
}

// Whoever read what we say may leave: visitors are served on.
process.stdout.on('error', () => undefined)
const code = await main().catch((error: unknown) => failed(error, commandOrNothing()))
// A session or a socket that will not close must not keep a gateway that has left.
process.exit(code)

// The gateway's command as a process of its own, for tests: started, watched by its JSON lines, killed, started again, and gone at the end.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Ends } from './origin.ts'
import { until } from './until.ts'

const MAIN = join(import.meta.dirname, '../../sidecar/main.ts')
const exec = promisify(execFile)

export interface GatewayOptions {
  /** By their names in the file. */
  readonly settings?: Readonly<Record<string, string | number>>
  readonly env?: Readonly<Record<string, string>>
  /** Called before the first start, when neither folder is there. */
  prepare?(runDir: string, stateDir: string): void
  /** Instead of the sources. */
  readonly main?: string
}

export interface GatewayProcess {
  readonly runDir: string
  readonly stateDir: string
  readonly pid: () => number
  /** What it said, an object a line, since the first start. */
  readonly events: readonly Readonly<Record<string, unknown>>[]
  logs(): string
  /** Runs `postern-gateway ARGS…` against it and gives what it prints. */
  command(...args: string[]): Promise<string>
  /** Makes an agent and gives its join string. */
  addAgent(id: string, service: string, host: string, url: string): Promise<string>
  /** SIGKILL. */
  kill(): Promise<void>
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | NodeJS.Signals>
  /** Starts it anew on the same folders. */
  restart(): Promise<void>
}

export async function startGateway(t: Ends, options: GatewayOptions = {}): Promise<GatewayProcess> {
  // Not t.testdir(): the path of a unix socket has 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'postern-gw-'))
  const main = options.main ?? MAIN
  const runDir = join(dir, 'run')
  const stateDir = join(dir, 'state')
  const flags = Object.entries({ run_dir: runDir, state_dir: stateDir, ...options.settings }).flatMap(([name, value]) => [`--${name.replaceAll('_', '-')}`, String(value)])
  const events: Record<string, unknown>[] = []
  let log = ''
  let child: ChildProcess | undefined
  let exited: Promise<number | NodeJS.Signals> = Promise.resolve(0)

  const start = async (): Promise<void> => {
    const from = events.length
    const started = spawn(process.execPath, [main, 'start', ...flags], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } })
    child = started
    exited = new Promise((resolve) => started.once('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL')))
    for (const stream of [started.stdout, started.stderr]) {
      let rest = ''
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        log += chunk
        const lines = (rest + chunk).split('\n')
        rest = lines.pop()!
        for (const line of lines) events.push(line.startsWith('{') ? (JSON.parse(line) as Record<string, unknown>) : { event: 'text', line })
      })
    }
    await until('the gateway is ready', () => {
      if (started.exitCode !== null) throw new Error(`the gateway ended at once:\n${log}`)
      return events.slice(from).some((event) => event.event === 'ready')
    }, { logs: () => log })
  }
  const stop = async (signal: NodeJS.Signals): Promise<number | NodeJS.Signals> => {
    child?.kill(signal)
    return exited
  }
  const command = async (...args: string[]): Promise<string> => (await exec(process.execPath, [main, ...args, '--run-dir', runDir, '--state-dir', stateDir])).stdout

  t.teardown(async () => {
    await stop('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  })
  options.prepare?.(runDir, stateDir)
  await start()
  return {
    runDir,
    stateDir,
    pid: () => child?.pid ?? 0,
    events,
    logs: () => log,
    command,
    addAgent: async (id, service, host, url) => (await command('agents', 'add', id, '--service', service, '--host', host, '--url', url)).trim(),
    kill: async () => void (await stop('SIGKILL')),
    stop: () => stop('SIGTERM'),
    restart: start,
  }
}

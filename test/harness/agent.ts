// The agent's command as a process of its own, for tests: started, watched by its JSON lines, and gone at the end.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import type { Ends } from './origin.ts'
import { until } from './until.ts'

const MAIN = join(import.meta.dirname, '../../agent/main.ts')

export interface AgentOptions {
  /** Where it starts: `serving` is waited for, unless this is false. */
  readonly ready?: boolean
  /** The join string; goes by the environment. */
  readonly join?: string
  readonly env?: Readonly<Record<string, string>>
  readonly main?: string
  /** Its state and runtime folder: a fresh one, if it is not said. */
  readonly home?: string
}

export interface AgentProcess {
  readonly child: ChildProcess
  /** What it said, an object a line. */
  readonly events: readonly Readonly<Record<string, unknown>>[]
  /** All of its output. */
  logs(): string
  /** Resolves with the first event of that name, past or to come. */
  event(name: string): Promise<Readonly<Record<string, unknown>>>
  /** Resolves when it has ended: its exit code, or the signal that killed it. */
  readonly exited: Promise<number | NodeJS.Signals>
  signal(signal: NodeJS.Signals): void
  stop(): Promise<void>
}

/** Runs `postern ARGS…`. */
export async function runAgent(t: Ends, args: readonly string[], options: AgentOptions = {}): Promise<AgentProcess> {
  const { POSTERN_JOIN: _join, POSTERN_JOIN_FILE: _file, ...inherited } = process.env
  // What it keeps for its next start, and the socket by which it answers `postern status`, are this test's own.
  const home = options.home ?? mkdtempSync(join(tmpdir(), 'postern-agent-'))
  if (options.home === undefined) t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const env = { ...inherited, XDG_STATE_HOME: home, XDG_RUNTIME_DIR: home, ...(options.join === undefined ? {} : { POSTERN_JOIN: options.join }), ...options.env }
  const child = spawn(process.execPath, [options.main ?? MAIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const events: Record<string, unknown>[] = []
  let log = ''
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      log += `${line}\n`
      try {
        events.push(JSON.parse(line) as Record<string, unknown>)
      } catch {
        events.push({ event: 'text', line })
      }
    })
  }
  const exited = new Promise<number | NodeJS.Signals>((resolve) => child.once('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL')))
  const agent: AgentProcess = {
    child,
    events,
    logs: () => log,
    event: (name) => until(`the agent says ${name}`, () => events.find((event) => event.event === name), { logs: () => log }),
    exited,
    signal: (signal) => void child.kill(signal),
    stop: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
  t.teardown(() => agent.stop())
  if (options.ready !== false) await agent.event('serving')
  return agent
}

/** `postern http TARGET`, serving. */
export function startAgent(t: Ends, options: { readonly join: string; readonly target: number | string; readonly args?: readonly string[] }): Promise<AgentProcess> {
  return runAgent(t, ['http', String(options.target), ...(options.args ?? [])], { join: options.join })
}

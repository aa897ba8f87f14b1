// The processes of a demo or a measurement: each with its log in memory, all stopped in reverse order, none left behind.
import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { createConnection } from 'node:net'

/** What is kept of a process's output: enough to see why it died. */
const LOG_MAX_BYTES = 64 * 1024
/** After the first SIGTERM, which lets Postern's commands wait for open event streams; the second one does not. */
const PATIENCE_MS = 1_000
/** After the first SIGTERM: whoever is still there is killed. */
const STOP_WAIT_MS = 10_000
const START_WAIT_MS = 20_000
const POLL_MS = 20

export interface Running {
  readonly name: string
  readonly pid: number
  log(): string
  readonly exited: boolean
  /** Its output was shown as it came. */
  readonly shown: boolean
  /** SIGTERM, after a while once more, then SIGKILL. */
  stop(): Promise<void>
}

export interface StartOptions {
  env?: Record<string, string>
  /** Is told each line as it comes. */
  show?: (line: string) => void
  /** A command to run it by: `['ip', 'netns', 'exec', NAME]`. */
  within?: readonly string[]
}

export class Processes {
  private readonly all: (Running & { child: ChildProcess })[] = []
  private stopping = false
  /** A process ended without being asked to. */
  onDeath: (process: Running, how: string, code: number | null) => void = () => undefined

  start(name: string, command: string, args: readonly string[], options: StartOptions = {}): Running {
    if (this.stopping) throw new Error(`${name} is not started: everything stops`)
    const [program = command, ...rest] = [...(options.within ?? []), command, ...args]
    // A group of its own: Ctrl-C on the terminal comes to us alone, and we stop the others in order.
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env }, detached: true })
    let log = ''
    const take = (text: string): void => {
      log = (log + text).slice(-LOG_MAX_BYTES)
      if (options.show !== undefined) for (const line of text.trimEnd().split('\n')) options.show(line)
    }
    child.stdout.setEncoding('utf8').on('data', take)
    child.stderr.setEncoding('utf8').on('data', take)
    let exited = false
    const gone = new Promise<void>((resolve) => {
      const end = (how: string, code: number | null): void => {
        if (exited) return
        exited = true
        resolve()
        if (!this.stopping && !asked) this.onDeath(running, how, code)
      }
      child.once('error', (error) => {
        take(`${error.message}\n`)
        end(error.message, null)
      })
      child.once('exit', (code, signal) => end(signal ?? `exit code ${String(code)}`, code))
    })
    let asked = false
    const running = {
      name,
      pid: child.pid ?? 0,
      shown: options.show !== undefined,
      log: () => log,
      get exited() {
        return exited
      },
      child,
      stop: async () => {
        asked = true
        if (exited) return
        signalGroup(child, 'SIGTERM')
        const again = setTimeout(() => signalGroup(child, 'SIGTERM'), PATIENCE_MS)
        const late = setTimeout(() => signalGroup(child, 'SIGKILL'), STOP_WAIT_MS)
        await gone
        clearTimeout(again)
        clearTimeout(late)
        // What it started itself and left (nginx's workers after a kill).
        signalGroup(child, 'SIGKILL')
      },
    }
    this.all.push(running)
    return running
  }

  /** Resolves when `condition` holds; throws with the process's log if it dies first or it takes too long. */
  async until(running: Running, what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + START_WAIT_MS
    while (!(await condition())) {
      if (running.exited) throw new Error(`${running.name} ended: ${what} never came\n${running.log()}`)
      if (performance.now() > deadline) throw new Error(`${running.name}: no ${what} within ${String(START_WAIT_MS)} ms\n${running.log()}`)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  pids(): number[] {
    return this.all.filter(({ exited }) => !exited).map(({ pid }) => pid)
  }

  async stopAll(): Promise<void> {
    this.stopping = true
    for (const running of this.all.toReversed()) await running.stop()
  }
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // The group is gone: just what was wanted.
  }
}

/** When told to end: stops them all, takes away `dir`, exits with `code`. */
export function endOnSignal(processes: Processes, dir: string, code: number): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => void processes.stopAll().then(() => {
      rmSync(dir, { recursive: true, force: true })
      process.exit(code)
    }))
  }
}

/** Does something accept connections there? */
export function accepts(where: { port: number } | { path: string }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection('port' in where ? { ...where, host: '127.0.0.1' } : where)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** Runs a command to its end; gives its standard output, throws with its standard error. */
export function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let out = ''
    let wrong = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (wrong += text))
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(out)
      else reject(new Error(`${command} ${args.join(' ')}: exit code ${String(code)}\n${wrong}${out}`))
    })
  })
}

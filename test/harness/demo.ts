// `npm run demo` as a test starts it: with a folder of its own for temporary files, by which its processes are found.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ends } from './origin.ts'
import { factOf } from './proc.ts'
import { until } from './until.ts'

const MAIN = join(import.meta.dirname, '../../dev/demo.ts')

export interface Demo {
  readonly child: ChildProcess
  /** Its temporary files go here, and its processes bear it on their command lines. */
  readonly dir: string
  out(): string
  ended: Promise<number | null>
}

export function startDemo(t: Ends, options: readonly string[]): Demo {
  // Not t.testdir(): the path of a unix socket has at most 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'demo-test-'))
  const child = spawn(process.execPath, [MAIN, ...options], { env: { ...process.env, TMPDIR: dir }, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (out += text))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  t.teardown(async () => {
    child.kill('SIGTERM')
    await ended
    rmSync(dir, { recursive: true, force: true })
  })
  return { child, dir, out: () => out, ended }
}

export async function ready(demo: Demo): Promise<void> {
  await until('the demo is ready', () => /^ready /m.test(demo.out()) || demo.child.exitCode !== null, { logs: demo.out, timeoutMs: 40_000 })
  if (demo.child.exitCode !== null) throw new Error(`the demo ended early:\n${demo.out()}`)
}

export function processesOf(demo: Demo): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => factOf(pid, 'cmdline').includes(demo.dir) || factOf(pid, 'environ').includes(demo.dir))
}

export function killGateway(demo: Demo): void {
  const pid = processesOf(demo).find((each) => factOf(each, 'cmdline').includes('sidecar/main.ts'))
  if (pid === undefined) throw new Error(`no gateway among the demo's processes:\n${demo.out()}`)
  process.kill(pid, 'SIGKILL')
}

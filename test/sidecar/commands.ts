// Runs `postern-gateway` commands on folders of a test's own, and tells how they ended.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ends } from '../harness/origin.ts'

const MAIN = join(import.meta.dirname, '../../sidecar/main.ts')

export interface Ran {
  readonly code: unknown
  readonly stdout: string
  readonly stderr: string
}

/** `postern-gateway ARGS…` on these folders. */
export function commandsOf(dirs: { runDir: string; stateDir: string }): (line: string) => Promise<Ran> {
  return (line) => new Promise((resolve) => {
    const args = [MAIN, ...line.split(' '), '--run-dir', dirs.runDir, '--state-dir', dirs.stateDir]
    execFile(process.execPath, args, (error, stdout, stderr) => resolve({ code: error === null ? 0 : error.code, stdout, stderr }))
  })
}

/** Folders that a gateway may make; not t.testdir(), for the path of a unix socket has 107 bytes. */
export function folders(t: Ends): { dir: string; runDir: string; stateDir: string } {
  const dir = mkdtempSync(join(tmpdir(), 'postern-manage-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return { dir, runDir: join(dir, 'run'), stateDir: join(dir, 'state') }
}

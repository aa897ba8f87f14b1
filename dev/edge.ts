// What nginx needs to be Postern's endpoint, in a folder of one's own: the files as the gateway's command writes them, and a server that uses them.
import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { writeNginxFiles } from '../sidecar/nginx-files.ts'
import { loadNjs } from './nginx.ts'
import { run } from './processes.ts'

const ROOT = join(import.meta.dirname, '..')
const SOURCES = ['njs/postern.ts', 'njs/tsconfig.json'].map((name) => join(ROOT, name))
/** Where the gateway's command looks for it. */
const MODULE = join(ROOT, 'dist/njs/postern.js')

/** Compiles the njs module if its source is newer. Several processes may do so at once: each renames a whole file into place. */
async function compileModule(): Promise<void> {
  const made = statSync(MODULE, { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (SOURCES.every((source) => statSync(source).mtimeMs < made)) return
  const own = join(ROOT, `dist/njs-${String(process.pid)}`)
  await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', join(ROOT, 'njs/tsconfig.json'), '--outDir', own])
  mkdirSync(join(MODULE, '..'), { recursive: true })
  renameSync(join(own, 'postern.js'), MODULE)
  rmSync(own, { recursive: true })
}

/** Writes the includes and the njs module into `folder`, for the gateway whose run directory is `runDir`. */
export async function prepareEdge(folder: string, runDir: string): Promise<void> {
  await compileModule()
  writeNginxFiles(folder, runDir)
}

/**
 * The parts of an nginx configuration that serve visitors and agents on one port; the includes go into `folder`. With `reuseport` each worker gets its
 * share of the connections; without, one of two may get 60 of 64.
 */
export async function edgeParts(folder: string, runDir: string, port: number, address = '127.0.0.1'): Promise<{ main: string; http: string }> {
  await prepareEdge(folder, runDir)
  return {
    main: await loadNjs(),
    http: `  include ${folder}/postern-http.conf;
  server {
    listen ${address}:${String(port)} default_server backlog=4096 reuseport so_keepalive=on;
    include ${folder}/postern-server.conf;
    include ${folder}/postern-agents.conf;
    location / {
      client_max_body_size 0;
      root /nonexistent;
      try_files "" $postern_location;
    }
  }`,
  }
}

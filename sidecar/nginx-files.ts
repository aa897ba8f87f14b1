// Copies what nginx includes, and the njs module, to a folder, with the run directory and the module's place written into them.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { SettingsError } from './settings.ts'

/** The names that the shipped files hold. */
const RUN_DIR = '/run/postern'
const EDGE_DIR = '/etc/nginx/postern'
const MODULE = 'postern.js'
/** A path goes into nginx's files as it stands: only what needs no quoting there. */
const PLAIN_PATH = /^\/[A-Za-z0-9/._+-]*$/

/** Writes the files into `out` (made if need be); returns their names. Throws a {@link SettingsError} for a path that can't be written into them, an Error that says what is missing. */
export function writeNginxFiles(out: string, runDir: string): string[] {
  const places = { out: resolve(out), runDir: resolve(runDir) }
  for (const path of Object.values(places)) if (!PLAIN_PATH.test(path)) throw new SettingsError(`${path}: nginx's files take only paths of A-Za-z0-9/._+-`)
  const root = packageRoot()
  const module = join(root, 'dist/njs', MODULE)
  if (!existsSync(module)) throw new Error(`${module} is missing: npm run build makes it`)
  mkdirSync(places.out, { recursive: true })
  const includes = readdirSync(join(root, 'nginx')).filter((name) => name.endsWith('.conf'))
  for (const name of includes) {
    const text = readFileSync(join(root, 'nginx', name), 'utf8').replaceAll(RUN_DIR, places.runDir).replaceAll(EDGE_DIR, places.out)
    writeFileSync(join(places.out, name), text)
  }
  writeFileSync(join(places.out, MODULE), readFileSync(module, 'utf8').replaceAll(RUN_DIR, places.runDir))
  return [...includes, MODULE]
}

// This file runs from sidecar/ in the repository and from dist/sidecar/ in the package.
function packageRoot(): string {
  const above = resolve(import.meta.dirname, '..')
  return existsSync(join(above, 'nginx')) ? above : resolve(above, '..')
}

// `npm run build`: the agent and the gateway as JavaScript, the njs module, into dist/ (or the folder that is named), as the npm package carries them.
import { chmodSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { run } from './processes.ts'

const ROOT = join(import.meta.dirname, '..')
const TSC = join(ROOT, 'node_modules/.bin/tsc')
const out = resolve(process.argv[2] ?? join(ROOT, 'dist'))
rmSync(out, { recursive: true, force: true })
await run(TSC, ['-p', join(ROOT, 'tsconfig.build.json'), '--outDir', out])
await run(TSC, ['-p', join(ROOT, 'njs/tsconfig.json'), '--outDir', join(out, 'njs')])
for (const command of ['agent', 'sidecar']) chmodSync(join(out, command, 'main.js'), 0o755)

// `npm run build`: the agent and the gateway as JavaScript, the njs module, into dist/, as the npm package carries them.
import { chmodSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './processes.ts'

const ROOT = join(import.meta.dirname, '..')
rmSync(join(ROOT, 'dist'), { recursive: true, force: true })
await run('tsc', ['-p', join(ROOT, 'tsconfig.build.json')])
await run('tsc', ['-p', join(ROOT, 'njs/tsconfig.json')])
for (const command of ['agent', 'sidecar']) chmodSync(join(ROOT, 'dist', command, 'main.js'), 0o755)

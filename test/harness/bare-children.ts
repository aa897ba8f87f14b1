// Imported into every test process (.taprc): what a test starts runs as it would anywhere, without tap's loader in it.
// That loader is there for coverage, which we don't take; it slows each start, adds to the memory we measure, and breaks tsc.
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(join(import.meta.dirname, '../../node_modules/@tapjs/processinfo/package.json'))
const onSpawn = require('process-on-spawn') as { addListener(listener: (spawn: { env: Record<string, string> }) => void): void }
// Imported after tap's loader, so this listener has the last word.
onSpawn.addListener((spawn) => {
  delete spawn.env['NODE_OPTIONS']
})

// A file by itself, outside of `npm test`, has as long as there (.taprc): a net for what hangs, some five times what the slowest needs.
process.env['TAP_TIMEOUT'] ??= '300'

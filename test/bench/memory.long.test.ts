// Twenty downloads of 1 GB read at 1 MB/s grow gateway and agent by less than 100 MB each, and it comes back (issue 2, Speed).
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Memory } from '../../bench/memory.ts'

const MAIN = join(import.meta.dirname, '../../bench/memory.ts')
/** What V8 keeps of its heap once it had it, though nothing lives there. */
const CAME_BACK_MB = 40

for (const policy of ['never', 'always']) {
  t.test(`slow readers of large downloads grow nobody, policy ${policy}`, async (t) => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [MAIN, '--policy', policy])
    t.comment(stderr)
    const result = JSON.parse(stdout) as Memory
    t.ok(result.readMbPerSecond > 0.8, `each read ${String(result.readMbPerSecond)} MB/s`)
    for (const part of ['gateway', 'agent'] as const) {
      t.ok(result[part].most < 100, `the ${part} grew by ${String(result[part].most)} MB`)
      t.ok(result[part].after < CAME_BACK_MB, `the ${part} kept ${String(result[part].after)} MB`)
    }
  })
}

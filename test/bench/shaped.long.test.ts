// On a link of 4 Mbit/s a small answer beside a large download comes in under a second, and no channel is lost (issue 2, Speed).
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Shaped } from '../../bench/shaped.ts'

const MAIN = join(import.meta.dirname, '../../bench/shaped.ts')

for (const policy of ['never', 'always']) {
  t.test(`small answers stay quick beside a download at 4 Mbit/s, policy ${policy}`, { skip: process.getuid?.() === 0 ? false : 'network namespaces need root' }, async (t) => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [MAIN, '--seconds', '40', '--policy', policy])
    t.comment(stderr)
    const result = JSON.parse(stdout) as Shaped
    t.ok(result.smallMs.count >= 30, `${String(result.smallMs.count)} were asked`)
    t.ok(result.smallMs.worst < 1_000, `the slowest took ${String(result.smallMs.worst)} ms`)
    t.ok(result.downMbit > 2.8, `the download had ${String(result.downMbit)} Mbit/s meanwhile`)
    t.equal(result.channelsLost, 0, 'no heartbeat is lost')
  })
}

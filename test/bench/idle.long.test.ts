// A thousand connected agents that have nothing to do cost the gateway at most 60 KB each (issue 3, Speed).
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Idle } from '../../bench/idle.ts'

const MAIN = join(import.meta.dirname, '../../bench/idle.ts')

t.setTimeout(600_000)

for (const channel of ['websocket', 'tcp', 'sse', 'long-poll']) {
  t.test(`an idle agent on ${channel} costs the gateway at most 60 KB`, async (t) => {
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, '--agents', '1000', '--channel', channel])
    const result = JSON.parse(stdout) as Idle
    t.comment(stdout)
    t.equal(result.agents, 1_000)
    t.ok(result.eachKb <= 60, `each costs ${result.eachKb.toFixed(1)} KB`)
  })
}

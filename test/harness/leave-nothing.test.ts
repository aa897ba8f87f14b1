// A test's process that is interrupted, or fails, leaves none behind of those that it and its children started.
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { isAlive } from './proc.ts'
import { until } from './until.ts'

const MODULE = join(import.meta.dirname, 'leave-nothing.ts')
/** Starts a shell, which starts another program, and says the ids of both. */
const PROGRAM = `
const child = require('node:child_process').spawn('sh', ['-c', 'sleep 1000 & echo $! $$; wait'], { stdio: ['ignore', 'inherit', 'inherit'] })
process.once('message', () => { child.unref(); process.exitCode = 1; process.disconnect() })
`

async function started(): Promise<{ child: ChildProcess; ids: string[]; gone: Promise<number | null> }> {
  const child = spawn(process.execPath, ['--import', MODULE, '-e', PROGRAM], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  const gone = new Promise<number | null>((resolve) => child.once('exit', resolve))
  let said = ''
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text))
  const ids = await until('both are there', () => /^(\d+) (\d+)\n$/.exec(said)?.slice(1))
  return { child, ids, gone }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGALRM'] as const) {
  t.test(`${signal} ends all of them`, async (t) => {
    const { child, ids, gone } = await started()
    child.kill(signal)
    t.ok((await gone)! > 128)
    await until('none is left', () => !ids.some((id) => isAlive(id)))
  })
}

t.test('one that fails ends all of them', async (t) => {
  const { child, ids, gone } = await started()
  child.send('fail')
  t.equal(await gone, 1)
  await until('none is left', () => !ids.some((id) => isAlive(id)))
})

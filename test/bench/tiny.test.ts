// The benchmark runs, as small as it gets, so that it can't rot: every peer, every measurement, nothing left behind.
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { median, ratio, type Run, tables } from '../../bench/result.ts'

const MAIN = join(import.meta.dirname, '../../bench/main.ts')
const execute = promisify(execFile)

t.test('bench --tiny measures every peer once and leaves no file behind', async (t) => {
  // Not t.testdir(): the path of a unix socket has at most 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'bench-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const { stdout } = await execute(process.execPath, [MAIN, '--tiny'], { env: { ...process.env, TMPDIR: dir } })
  const [peers, channels] = stdout.split('# Channels')
  const told = (all: string, peer: string, titles: readonly string[]): void => {
    for (const title of titles) {
      const section = all.slice(all.indexOf(title))
      t.match(section.slice(0, section.indexOf('\n\n', section.indexOf('| --'))), new RegExp(`^\\| ${peer} \\| [\\d.,]+`, 'm'), `${title}: ${peer}`)
    }
  }
  for (const peer of ['direct', 'postern never', 'postern always', 'ssh -R']) {
    told(peers!, peer, ['Small answers', 'One large download', 'One large upload', 'From connect', 'Memory when idle'])
  }
  for (const kind of ['websocket', 'http2', 'tcp', 'tcp straight', 'sse', 'long-poll', 'pipe']) told(channels!, kind, ['Small answers', 'One large download'])
  t.notMatch(stdout, /NaN/)
  t.same(readdirSync(dir), [])
})

t.test('bench says what is wrong with its options and exits with 2', async (t) => {
  for (const [options, says] of [[['--only', 'nonsense'], /no such measurement: nonsense/], [['--pairs', '0'], /--pairs takes/], [['--loud'], /usage: npm run bench/]] as const) {
    await t.rejects(execute(process.execPath, [MAIN, ...options]), { code: 2, stderr: says })
  }
})

function run(peer: string, round: number, value: number, foreign = 0): Run {
  return { peer, measurement: 'small', round, value, foreign, cpu: {}, requests: 1 }
}

t.test('a ratio is the median of the rounds, each with its own', (t) => {
  const runs = [run('a', 1, 10), run('b', 1, 20), run('a', 2, 30), run('b', 2, 30), run('a', 3, 9), run('b', 3, 90)]
  t.equal(ratio(runs, 'small', 'a', 'b'), 0.5)
  t.equal(median([4, 1, 3, 2]), 2.5)
  t.end()
})

t.test('a run under foreign load is left out and said to be worthless', (t) => {
  const text = tables([run('direct', 1, 100), run('direct', 2, 5, 0.6), run('b', 1, 7, 0.3)], ['small'], ['direct', 'b'], ['direct'], 0.1)
  t.match(text, /\| direct \| 100 \|/)
  t.match(text, /worthless, left out: small, direct, round 2: others used 60 % of the machine/)
  t.match(text, /nothing counts\*\* for small, b/)
  t.end()
})

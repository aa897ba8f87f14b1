// Runs tap and tells its result briefly: a line a file, whatever failed in full, and the counts as the closing line. Exits 1 if anything failed.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

const tap = spawn('tap', ['run', '--reporter=tap', ...process.argv.slice(2)], { stdio: ['ignore', 'pipe', 'inherit'] })
const ended = new Promise<number>((resolve) => tap.once('exit', (code, signal) => resolve(signal === null ? (code ?? 1) : 1)))
// Ctrl-C reaches tap as well: its own end is ours.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => tap.kill(signal))

/** What the file at hand has printed: shown only if the file fails. */
let lines: string[] = []
/** The file just told failed: its diagnosis follows. */
let showing = false
let counts: string | undefined

function count(name: string): number {
  return Number(new RegExp(`${name}: (\\d+)`).exec(counts ?? '')?.[1] ?? 0)
}

for await (const line of createInterface({ input: tap.stdout })) {
  const file = /^(not )?ok \d+ - (.*?)(?: # (.*?))?(?: \{)?$/.exec(line)
  if (file !== null) {
    const [, not, name, remark] = file
    showing = not !== undefined
    if (showing) for (const each of lines) console.log(each)
    console.log(`${showing ? 'FAILED' : 'ok    '} ${name ?? ''} ${remark ?? ''}`)
    lines = []
  } else if (line.startsWith('# {')) {
    counts = line
  } else if (showing && line.startsWith('  ')) {
    console.log(line)
  } else if (/^ |^# Subtest/.test(line)) {
    showing = false
    lines.push(line)
  }
  // A skipped test says why: that must not pass in silence.
  const skipped = /^ +ok \d+ - (.*?) # SKIP(.*)$/i.exec(line)
  if (skipped !== null) console.log(`skipped ${skipped[1] ?? ''}:${skipped[2] ?? ''}`)
}

const code = await ended
if (counts === undefined) console.log('tap ended before its tests did')
// One that does not count as passed nor failed by itself: tap died.
const failed = Math.max(count('fail'), code === 0 ? 0 : 1)
console.log(`\n${String(count('pass'))} passed, ${String(failed)} failed, ${String(count('skip'))} skipped`)
process.exitCode = failed > 0 || counts === undefined || count('pass') === 0 ? 1 : 0

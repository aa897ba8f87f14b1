// The log: one event is one line whatever a stranger puts into it, and a flood of strangers is told by its number.
import t from 'tap'
import { Log } from '../../sidecar/log.ts'

/** A line feed, a return, an escape, NUL, DEL, the C1 next line and CSI, bidi marks, a zero-width space, the Unicode line ends, a byte order mark. */
const NASTY = 'a\nb\rc\u001b[31md\0e\u007ff\u0085g\u009bh\u202ei\u2066j\u200bk\u2028l\u2029m\ufeffn%s%n"\\{}'

function rig(words: boolean) {
  const lines: string[] = []
  let now = '2026-01-01T00:00:00.000Z'
  return { lines, at: (time: string) => void (now = time), log: new Log({ words, now: () => now, write: (line) => lines.push(line) }) }
}

t.test('a line is one object of JSON with time, level and event first', (t) => {
  const { log, lines } = rig(false)
  log.info('ready', { run_dir: '/r', count: 3, is: true, missing: undefined })
  t.same(lines, ['{"time":"2026-01-01T00:00:00.000Z","level":"info","event":"ready","run_dir":"/r","count":3,"is":true}\n'])
  t.end()
})

t.test('no text makes a line of its own, turns a terminal or hides', (t) => {
  for (const words of [false, true]) {
    const { log, lines } = rig(words)
    log.warning('agent_refused', { peer: NASTY, detail: 'x' })
    t.equal(lines.length, 1)
    t.match(lines[0], /^[ -~]+\n$/, words ? 'as words' : 'as JSON')
    if (!words) t.match(JSON.parse(lines[0]!) as object, { peer: 'a?b?c?[31md?e?f?g?h?i?j?k?l?m?n%s%n"\\{}', detail: 'x' })
  }
  t.end()
})

t.test('as words a value can not pass for a further field', (t) => {
  const { log, lines } = rig(true)
  log.info('session_began', { agent: 'a', peer: 'x  agent=root', detail: 'say "no"' })
  t.same(lines, ['session began  agent=a  peer="x  agent=root"  detail="say \\"no\\""\n'])
  t.end()
})

t.test('a long text is cut', (t) => {
  const { log, lines } = rig(false)
  log.error('x', { detail: 'y'.repeat(1_000_000) })
  t.equal((JSON.parse(lines[0]!) as { detail: string }).detail, `${'y'.repeat(1_000)}…`)
  t.end()
})

t.test('of strangers ten lines a second are written, and then how many were not', (t) => {
  const { log, lines, at } = rig(false)
  for (let i = 0; i < 1_000; i++) log.stranger('agent_refused', { i })
  t.equal(lines.length, 10)
  log.info('other', {})
  t.equal(lines.length, 11, 'what is no stranger’s is written all the same')
  at('2026-01-01T00:00:01.000Z')
  log.stranger('agent_refused', {})
  t.same(lines.slice(11).map((line) => (JSON.parse(line) as { event: string; count?: number })).map(({ event, count }) => [event, count]), [['lines_left_out', 990], ['agent_refused', undefined]])
  t.end()
})

// What an agent says is one line an event, whatever it was told by others, and the join string is never shown.
import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { jsonLine, type Reported, textLines } from '../../agent/report.ts'
import { until } from '../harness/until.ts'
import { startGate } from './gate.ts'

const NASTY = 'a\nb\r\x1b[31mred\u0000\u202ereversed\u2028line\u0085next\ufeff%s'
const EVENTS: readonly Reported[] = [
  { event: 'lost', reason: NASTY },
  { event: 'moved', from: NASTY, to: NASTY, why: NASTY },
  { event: 'failed', reason: 'http', detail: NASTY, retryMs: 1_234 },
  { event: 'refused', code: 'unauthenticated', detail: NASTY },
  { event: 'serving', gateway: 'http://g', channel: 'websocket', session: 'ab', services: [{ name: NASTY, hosts: [], target: NASTY }] },
  { event: 'origin_failed', target: 'http://o', code: 'origin_reset', detail: NASTY },
]

t.test('a line of JSON is one line and safe to look at', (t) => {
  for (const event of EVENTS) {
    const line = jsonLine('2026-01-01T00:00:00.000Z', event)
    t.notMatch(line, /[\n\r\p{Cc}\p{Cf}\u2028\u2029]/u)
    t.match(JSON.parse(line), { time: '2026-01-01T00:00:00.000Z', event: event.event })
  }
  t.end()
})

t.test('a line for people is safe to look at', (t) => {
  for (const event of EVENTS) for (const line of textLines(event).split('\n')) t.notMatch(line, /[\p{Cc}\p{Cf}\u2028\u2029]/u)
  t.equal(textLines(EVENTS[0]!).split('\n').length, 1)
  t.end()
})

t.test('a text of a megabyte is cut', (t) => {
  t.ok(jsonLine('', { event: 'lost', reason: 'x'.repeat(1_000_000) }).length < 1_000)
  t.end()
})

const noTerminal = spawnSync('script', ['-qec', 'true', '/dev/null']).status === 0 ? false : 'there is no `script` to make a terminal with'

t.test('on a terminal it asks for the join string, shows nothing of it, and speaks to people', { skip: noTerminal }, async (t) => {
  const gate = await startGate(t)
  const main = join(import.meta.dirname, '../../agent/main.ts')
  const { POSTERN_JOIN: _join, POSTERN_JOIN_FILE: _file, ...env } = process.env
  // `exec`: a shell that stays between (dash does, bash does not) would hear Ctrl-C too and end with 130 whatever the agent does.
  const child = spawn('script', ['-qfec', `exec "${process.execPath}" "${main}" http 3000`, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = new Promise((resolve) => child.once('close', resolve))
  let shown = ''
  child.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString('utf8')))
  const logs = (): string => shown
  await until('it asks', () => shown.includes('join string'), { logs })
  child.stdin.write(`\x1b[200~${gate.join}\x1b[201~\r`)
  await until('it serves', () => shown.includes('demo.example → http://localhost:3000'), { logs })
  t.notMatch(shown, gate.join.slice(0, 20))
  t.match(shown, /^serving through http:\/\/127/m)
  child.stdin.write('\x03')
  t.equal(await ended, 0)
})

// `postern diagnose` tries everything there is, says of each what came of it, and whether the join string is taken.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import net, { type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { type LoginTried, Rows, type Tried, tryAll } from '../../agent/diagnose.ts'
import { decodeJoin, encodeJoin } from '../../protocol/join.ts'
import { runAgent } from '../harness/agent.ts'
import type { Ends } from '../harness/origin.ts'
import { startGate } from './gate.ts'
import { Paths } from './paths.ts'

interface Diagnosis {
  readonly gateway: string
  readonly tries: readonly Tried[]
  readonly login: LoginTried | null
}

async function diagnose(t: Ends, word: string, ...args: readonly string[]): Promise<{ code: unknown; out: string }> {
  const agent = await runAgent(t, ['diagnose', ...args], { join: word, ready: false })
  return { code: await agent.exited, out: agent.logs() }
}

t.test('it prints a line for each kind and way, why what fails does, and that the agent is taken', async (t) => {
  const gate = await startGate(t)
  const { code, out } = await diagnose(t, gate.join)
  t.equal(code, 0)
  const lines = out.trimEnd().split('\n')
  t.match(lines[0], /^KIND +WAY +RESULT +TIME +WHY$/)
  t.same(lines.slice(1, -1).map((line) => line.split(/\s+/).slice(0, 3).join(' ')), ['websocket direct works', 'tcp direct fails', 'http2 direct fails', 'sse direct fails', 'long-poll direct fails'])
  t.match(lines[4], /ms +\S.*HTTP 404/)
  t.equal(lines.at(-1), 'the gateway takes this agent, over websocket directly')
  t.notMatch(out, decodeJoin(gate.join).secret)
  t.equal(gate.serves.length, 0, 'it serves nothing')
})

t.test('--json says the same to a program', async (t) => {
  const gate = await startGate(t)
  const { code, out } = await diagnose(t, gate.join, '--json')
  t.equal(code, 0)
  const { gateway, tries, login } = JSON.parse(out) as Diagnosis
  t.equal(gateway, decodeJoin(gate.join).url)
  t.match(tries[0], { kind: 'websocket', way: 'direct', works: true, ms: Number, why: '' })
  t.ok(tries.slice(1).every(({ works, why }) => !works && why !== ''))
  t.same(login, { result: 'taken', why: '' })
})

t.test('a join string that is not taken ends with 3', async (t) => {
  const gate = await startGate(t)
  const { code, out } = await diagnose(t, encodeJoin({ ...decodeJoin(gate.join), secret: 'a-wrong-secret' }))
  t.equal(code, 3)
  t.match(out, /^the gateway refuses this agent, over websocket directly: /m)
  t.notMatch(out, /a-wrong-secret/)
})

t.test('where nothing works it ends with 1, and never shows the password of a proxy', async (t) => {
  const gate = await startGate(t)
  await gate.stop()
  const { code, out } = await diagnose(t, gate.join, '--proxy', 'http://user:pass-to-be-kept@127.0.0.1:9')
  t.equal(code, 1)
  t.match(out, /^no way leads to the gateway$/m)
  t.match(out, /^websocket +connect http:\/\/127\.0\.0\.1:9 +fails .*the proxy 127\.0\.0\.1:9 can not be reached/m)
  t.match(out, /^sse +forward http:\/\/127\.0\.0\.1:9 +fails /m)
  t.match(out, /^websocket +direct +fails .*ECONNREFUSED/m)
  t.notMatch(out, /pass-to-be-kept|user:/)
})

t.test('what is wished for narrows it, and its join string may come from the file of an agent', async (t) => {
  const gate = await startGate(t)
  const file = join(t.testdir(), 'postern.yaml')
  writeFileSync(file, `join: ${gate.join}\nchannel: tcp\nservices:\n  demo: 1\n`)
  const agent = await runAgent(t, ['diagnose', '-c', file, '--json'], { ready: false })
  t.equal(await agent.exited, 1)
  t.match(JSON.parse(agent.logs()), { tries: [{ kind: 'tcp', works: false }], login: null })
})

t.test('usage is checked as everywhere', async (t) => {
  for (const [args, says] of [
    [[], /no join string/],
    [['x'], /argument/],
    [['--channel', 'pigeon'], /no channel/],
    [['--gateway', 'ftp://x'], /a gateway’s URL/],
  ] as const) {
    const gate = await startGate(t)
    const env = args.length === 0 ? {} : { POSTERN_JOIN: gate.join }
    const agent = await runAgent(t, ['diagnose', ...args], { env, ready: false })
    t.equal(await agent.exited, 2, args.join(' '))
    t.match(agent.logs(), says)
  }
})

t.test('a server that says nothing is given up, one that is tried while others are is told of in order', (t) => {
  const paths = new Paths('e')
  for (const [kind, behaviour] of [['a', 'hangs'], ['b', 'mute']] as const) paths.behaviours.set(kind, behaviour)
  const candidates = paths.candidates('a', 'b', 'c', 'd', 'e')
  const told: Tried[] = []
  let all: readonly Tried[] | undefined
  void tryAll(candidates, { environment: paths.environment, userAgent: 'test' }, (tried) => told.push(tried)).then((tries) => (all = tries))
  const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve))
  return (async () => {
    while (all === undefined) {
      paths.pass(100)
      await turn()
    }
    t.match(told, [{ kind: 'a', works: false, ms: 15_000, why: 'no answer within 15 s' }, { kind: 'b', works: false, ms: 5_010 }, { kind: 'c', ms: 10 }, { kind: 'd' }, { kind: 'e', works: true }])
    t.same(told, all)
    t.same(paths.given, ['a'])
    t.equal(paths.open().length, 0, 'nothing is left open')
    const rows = new Rows(candidates)
    t.equal(new Set([rows.head, ...told.map((tried) => rows.row(tried))].map((line) => line.search(/RESULT|works|fails/))).size, 1, 'columns are columns')
  })()
})

t.test('whoever has seen enough may leave', async (t) => {
  const silent = net.createServer()
  t.teardown(() => silent.close())
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const word = encodeJoin({ url: `http://127.0.0.1:${String((silent.address() as AddressInfo).port)}`, id: 'a', secret: 's', key: 'k' })
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../agent/main.ts'), 'diagnose'], { env: { ...process.env, POSTERN_JOIN: word } })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = new Promise((resolve) => child.once('close', (_code, signal) => resolve(signal)))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  child.kill('SIGINT')
  t.equal(await ended, 'SIGINT')
})

// What worked is tried first the next time, what keeps breaking is tried last for a while, and the file that keeps it can be anything.
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { listCandidates } from '../../agent/candidates.ts'
import { Memory } from '../../agent/memory.ts'
import { SimulatedClock } from '../protocol/simulation.ts'

const GATEWAY = 'http://gw.example'
const candidates = listCandidates({ gateway: GATEWAY, proxy: 'http://user:secret@proxy:1' }, {})
const [websocket, tcp, http2] = candidates as [typeof candidates[0] & {}, typeof candidates[0] & {}, typeof candidates[0] & {}]

const clock = new SimulatedClock()
const pass = (ms: number): void => {
  clock.later(ms, () => undefined)
  clock.run(() => false, ms)
}
const kinds = (memory: Memory): string => memory.order(candidates.slice(0, 4)).map(({ kind }) => kind).join()
const remember = (file: string | undefined, gateway = GATEWAY): Memory => new Memory({ gateway, clock, file })

t.test('what worked goes first, in this process and the next', (t) => {
  const file = join(t.testdir(), 'state/postern/ways.json')
  const memory = remember(file)
  t.equal(kinds(memory), 'websocket,tcp,http2,sse')
  memory.worked(http2, false)
  t.equal(kinds(memory), 'http2,websocket,tcp,sse')
  t.equal(kinds(remember(file)), 'http2,websocket,tcp,sse')
  t.equal(kinds(remember(file, 'http://other')), 'websocket,tcp,http2,sse', 'another gateway is another matter')
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.notMatch(readFileSync(file, 'utf8'), /secret|user/)
  memory.worked(websocket, true)
  t.equal(kinds(remember(file)), 'websocket,tcp,http2,sse', 'that the best works need not be remembered')
  t.same(JSON.parse(readFileSync(file, 'utf8')), {})
  t.end()
})

t.test('an agent whose best way works writes nothing', (t) => {
  const file = join(t.testdir(), 'ways.json')
  remember(file).worked(websocket, true)
  t.throws(() => statSync(file), /ENOENT/)
  t.end()
})

t.test('the file stays small', (t) => {
  const file = join(t.testdir(), 'ways.json')
  for (let i = 0; i < 100; i++) remember(file, `http://gw-${String(i)}`).worked(tcp, false)
  const kept = Object.keys(JSON.parse(readFileSync(file, 'utf8')) as object)
  t.equal(kept.length, 64)
  t.equal(kept.at(-1), 'http://gw-99')
  t.end()
})

t.test('a file of anything at all is harmless, and is made good', (t) => {
  for (const text of ['', '[]', 'null', '{"http://gw.example":3}', '{"http://gw.example":"pigeon"}', '{"__proto__":{"x":1}}', 'x'.repeat(100_000), '{"a":']) {
    const file = join(t.testdir(), 'ways.json')
    writeFileSync(file, text)
    t.equal(kinds(remember(file)), 'websocket,tcp,http2,sse')
    remember(file).worked(tcp, false)
    t.equal(kinds(remember(file)), 'tcp,websocket,http2,sse')
  }
  t.end()
})

t.test('where nothing can be written it forgets, and works', (t) => {
  const folder = t.testdir()
  writeFileSync(join(folder, 'a-file'), '')
  mkdirSync(join(folder, 'is-a-folder'))
  symlinkSync(join(folder, 'nowhere/at/all'), join(folder, 'leads-nowhere'))
  for (const file of [join(folder, 'a-file/ways.json'), join(folder, 'is-a-folder'), join(folder, 'leads-nowhere/ways.json'), undefined]) {
    const memory = remember(file)
    memory.worked(tcp, false)
    t.equal(kinds(memory), 'tcp,websocket,http2,sse')
    t.equal(kinds(remember(file)), 'websocket,tcp,http2,sse')
  }
  chmodSync(folder, 0o700)
  t.end()
})

t.test('a candidate that twice breaks young goes to the back for five minutes', (t) => {
  const memory = remember(undefined)
  memory.broke(websocket, 9_999, false)
  t.equal(kinds(memory), 'websocket,tcp,http2,sse', 'once is nothing')
  memory.broke(websocket, 0, false)
  t.equal(kinds(memory), 'websocket,tcp,http2,sse', 'several at one blow are once')
  pass(1_000)
  memory.broke(websocket, 0, false)
  t.equal(kinds(memory), 'tcp,http2,sse,websocket')
  t.ok(memory.shuns(websocket))
  pass(299_000)
  t.equal(kinds(memory), 'websocket,tcp,http2,sse')
  t.end()
})

t.test('one that lived long in between is a good one, and one that fell silent is not', (t) => {
  const memory = remember(undefined)
  memory.broke(websocket, 1_000, false)
  pass(1_000)
  memory.broke(websocket, 10_000, false)
  pass(1_000)
  memory.broke(websocket, 1_000, false)
  t.notOk(memory.shuns(websocket))
  memory.broke(tcp, 1_000_000, true)
  pass(1_000)
  memory.broke(tcp, 1_000_000, true)
  t.ok(memory.shuns(tcp))
  t.end()
})

t.test('what is shunned goes last even if it worked last', (t) => {
  const memory = remember(undefined)
  memory.worked(tcp, false)
  for (let i = 0; i < 2; i++) {
    pass(1_000)
    memory.broke(tcp, 1, false)
  }
  t.equal(kinds(memory), 'websocket,http2,sse,tcp')
  t.end()
})

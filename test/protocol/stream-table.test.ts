// The table of a lane's streams finds what a Map would find, and what has left it can be collected at once.
import t from 'tap'
import v8 from 'node:v8'
import vm from 'node:vm'
import type { LaneStream } from '../../protocol/lane-stream.ts'
import { StreamTable } from '../../protocol/stream-table.ts'
import { Random } from './simulation.ts'

v8.setFlagsFromString('--expose-gc')
const gc = vm.runInNewContext('gc') as (options?: { type: 'minor' }) => void

/** As large as a request with all that hangs on it. */
const BALLAST_NUMBERS = 512
const streamOf = (id: number): LaneStream => ({ id, ballast: Array.from({ length: BALLAST_NUMBERS }, () => Math.random()) }) as unknown as LaneStream

t.test('it holds what a Map would hold, whatever comes and goes in whatever order', async (t) => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new Random(seed)
    const [table, map] = [new StreamTable(), new Map<number, LaneStream>()]
    for (let step = 0; step < 500; step++) {
      const id = step + random.below(40) - 20
      const there = map.get(id)
      if (there === undefined && random.below(5) > 0) {
        const stream = { id } as LaneStream
        map.set(id, stream)
        table.add(stream)
      } else if (there !== undefined) {
        map.delete(id)
        if (!table.remove(there)) t.fail(`seed ${String(seed)}: ${String(id)} was there`)
      }
      if (random.below(50) > 0) continue
      for (const each of [...map.values()].filter(() => random.below(4) > 0)) {
        map.delete(each.id)
        if (!table.remove(each)) t.fail(`seed ${String(seed)}: ${String(each.id)} was there`)
      }
    }
    t.equal(table.count, map.size)
    t.same(table.all().map(({ id }) => id), [...map.keys()].toSorted((a, b) => a - b))
    for (let id = -20; id < 540; id++) if (table.find(id) !== map.get(id)) t.fail(`seed ${String(seed)}: ${String(id)}`)
  }
})

t.test('one that has left is not there, and leaves no second time', async (t) => {
  const table = new StreamTable()
  const [first, anew] = [streamOf(4), streamOf(4)]
  table.add(first)
  t.ok(table.remove(first))
  t.equal(table.find(4), undefined)
  t.notOk(table.remove(first))
  table.add(anew)
  t.notOk(table.remove(first), 'another of the same id is another')
  t.equal(table.find(4), anew)
  t.equal(table.count, 1)
})

t.test('streams that came and went do not become old, however old the table is', async (t) => {
  const OPEN = 64
  const table = new StreamTable()
  const open: LaneStream[] = []
  let id = 0
  const turn = (): void => {
    const stream = streamOf((id += 2))
    table.add(stream)
    open.push(stream)
    if (open.length > OPEN) table.remove(open.shift()!)
  }
  const old = (): number => v8.getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')!.space_used_size
  for (let i = 0; i < 1_000; i++) turn()
  gc()
  gc()
  const bytes = 10_000 * BALLAST_NUMBERS * 8
  let most = 0
  // A large collection in between would hide some of it.
  for (let round = 0; round < 3; round++) {
    const before = old()
    for (let i = 0; i < 10_000; i++) {
      turn()
      if (i % 500 > 0) continue
      gc({ type: 'minor' })
      most = Math.max(most, old() - before)
    }
  }
  t.ok(most < bytes / 4, `${String(most)} of ${String(bytes)} bytes became old`)
})

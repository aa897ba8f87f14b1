// Which changes are published at once: all between which a hostname may move, and others in small batches.
import t from 'tap'
import { together } from '../../sidecar/moved-places.ts'

const groups = (...hosts: string[][]): string[][] => together(hosts, (one) => one).map((group) => group.map((one) => one.join(' ')))
/** So many that none of them fits into a batch beside others. */
const crowd = (name: string): string[][] => Array.from({ length: 32 }, (_value, i) => [`${name}.test`, `${name}-${String(i)}.test`])

t.test('who has a hostname that another had is published with it, over any number of steps', (t) => {
  const [first] = groups(...crowd('x'), ...crowd('y'), ['x.test', 'z.test'], ['z.test', 'y.test'])
  t.equal(first?.length, 66)
  t.end()
})

t.test('so is a wildcard that may stand in for a hostname', (t) => {
  const all = groups(...crowd('x'), ['+.x.test'], ['deep.in.a.x.test'], ['+.test', 'other.example'])
  t.equal(all[0]?.length, 35, 'and the wildcard above that')
  t.same(groups(...crowd('x'), ['+.other.example'], ['a.x.example']).map((group) => group.length), [32, 2], 'others are not')
  t.end()
})

t.test('what does not belong together goes in batches, each of them once', (t) => {
  const hosts = Array.from({ length: 1_000 }, (_value, i) => [`h${String(i)}.test`])
  const all = groups(...hosts)
  t.ok(all.every((group) => group.length <= 32))
  t.same(all.flat().sort(), hosts.flat().sort())
  t.end()
})

// SECURITY.md: each of the forty threats has its test, which is there, or a reason why it does not apply.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const TESTS = join(import.meta.dirname, '..')
const rows = [...readFileSync(join(TESTS, '../SECURITY.md'), 'utf8').matchAll(/^\| (\d+) \| ([^|]+) \| ([^|]+) \|$/gm)]

t.test('the table has forty rows', (t) => {
  t.same(rows.map(([, number]) => Number(number)), Array.from({ length: 40 }, (_value, i) => i + 1))
  t.end()
})

t.test('every test it names is there, and a threat without one says why', (t) => {
  for (const [, number, threat, where] of rows) {
    const named = [...where!.matchAll(/`([a-z0-9-]+\/[a-z0-9-]+)`/g)].map(([, name]) => name!)
    t.ok(named.length > 0 || where!.startsWith('does not apply: '), `${number!} ${threat!}`)
    for (const name of named) t.ok(existsSync(join(TESTS, `${name}.test.ts`)) || existsSync(join(TESTS, `${name}.ts`)), name)
  }
  t.end()
})

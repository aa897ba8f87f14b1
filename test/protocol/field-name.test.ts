// Names of fields: what is one, and how each is in lower case, however many others were asked for between.
import t from 'tap'
import { fieldName } from '../../protocol/field-name.ts'

const WORDS = ['Accept', 'Content', 'X', 'Forwarded', 'Real', 'Host', 'Port', 'IP', 'For', 'Via', 'Length', 'a', '0', '~', "it's", 'Encoding']

t.test('a name is told in lower case, the second time as the first', (t) => {
  for (const name of ['Host', 'host', 'X-Forwarded-Host', 'X-Forwarded-Port', 'TE', 'a', "!#$%&'*+.^_`|~", 'X'.repeat(48), 'X'.repeat(49)]) {
    t.equal(fieldName(name), name.toLowerCase(), name)
    t.equal(fieldName(name), name.toLowerCase(), `${name}, again`)
  }
  t.end()
})

t.test('what is no token is no name', (t) => {
  for (const name of ['', ' ', 'a b', 'a:', 'é', 'a\r\nb', 'a\0', '(', 'X'.repeat(60) + ' ']) {
    t.equal(fieldName(name), '', JSON.stringify(name))
    t.equal(fieldName(name), '', `${JSON.stringify(name)}, again`)
  }
  t.end()
})

t.test('4,096 names asked for in turns are never taken for one another', (t) => {
  const names = WORDS.flatMap((a) => WORDS.flatMap((b) => WORDS.map((c) => `${a}-${b}-${c}`)))
  for (let round = 0; round < 3; round++) {
    const wrong = names.filter((name) => fieldName(name) !== name.toLowerCase())
    t.same(wrong, [], `round ${String(round + 1)}`)
  }
  t.end()
})

// A race finds the first way that really carries messages, gives the others up, and says of each why it does not.
import t from 'tap'
import { type Failure, race, type Winner } from '../../agent/race.ts'
import { Paths, REFUSED } from './paths.ts'

/** Races these kinds until there is an outcome; what it was and when. */
function run(paths: Paths, ...kinds: readonly string[]): { outcome: Winner | Failure; ms: number } {
  let outcome: Winner | Failure | undefined
  const began = paths.clock.now()
  race(paths.candidates(...kinds), { environment: paths.environment, userAgent: 'test' }, (first) => {
    if (outcome !== undefined) throw new Error('a second outcome')
    outcome = first
  })
  if (!paths.run(() => outcome !== undefined)) throw new Error('no outcome')
  const ms = paths.clock.now() - began
  // A second outcome would come now.
  paths.pass(1_000)
  return { outcome: outcome!, ms }
}

const kindOf = (outcome: Winner | Failure): string => ('reason' in outcome ? outcome.reason : outcome.candidate.kind)

t.test('the candidate preferred wins, and no other is tried while it answers within its head start', (t) => {
  const paths = new Paths('websocket', 'tcp')
  const { outcome, ms } = run(paths, 'websocket', 'tcp')
  t.equal(kindOf(outcome), 'websocket')
  t.equal(ms, 30, 'a dial and a round trip')
  t.same(paths.dials, ['websocket at 0'])
  t.equal(paths.open('websocket').length, 1, 'it stays open')
  t.end()
})

t.test('the next one starts at once when one fails', (t) => {
  const paths = new Paths('sse')
  t.equal(kindOf(run(paths, 'websocket', 'tcp', 'sse').outcome), 'sse')
  t.same(paths.dials, ['websocket at 0', 'tcp at 10', 'sse at 20'])
  t.end()
})

t.test('a way that swallows what is said, or does not answer, costs a head start', (t) => {
  for (const bad of ['mute', 'hangs'] as const) {
    const paths = new Paths('tcp')
    paths.behaviours.set('websocket', bad)
    const { outcome, ms } = run(paths, 'websocket', 'tcp')
    t.equal(kindOf(outcome), 'tcp')
    t.equal(ms, 330)
    t.equal(paths.open('websocket').length, 0, 'the loser is cut')
  }
  t.end()
})

t.test('one that is slow and good wins over those after it that are not', (t) => {
  const paths = new Paths('websocket')
  paths.delayMs = 400
  t.equal(kindOf(run(paths, 'websocket', 'tcp', 'sse').outcome), 'websocket')
  t.same(paths.dials, ['websocket at 0', 'tcp at 300', 'sse at 600'])
  t.end()
})

t.test('three are tried at once, not more', (t) => {
  const paths = new Paths('e')
  for (const kind of ['a', 'b', 'c', 'd']) paths.behaviours.set(kind, 'mute')
  t.equal(kindOf(run(paths, 'a', 'b', 'c', 'd', 'e').outcome), 'e')
  t.same(paths.dials, ['a at 0', 'b at 300', 'c at 600', 'd at 5000', 'e at 5300'], 'a place is free after 5 s')
  t.end()
})

t.test('when all fail there is one failure, with the words of each', (t) => {
  const paths = new Paths()
  paths.behaviours.set('websocket', { reason: 'http', detail: 'HTTP 403' })
  paths.behaviours.set('sse', 'mute')
  t.same(run(paths, 'websocket', 'tcp', 'sse').outcome, {
    reason: 'http',
    detail: 'websocket: HTTP 403; tcp: nobody is there; sse: simulation: no sign of life came back within 5.0 s',
  })
  t.end()
})

t.test('where nobody is at all one kind asks for all', (t) => {
  const paths = new Paths('sse')
  paths.behaviours.set('websocket', { ...REFUSED, nobody: true })
  t.match(run(paths, 'websocket', 'tcp', 'sse').outcome, REFUSED)
  t.same(paths.dials, ['websocket at 0'])
  const slow = new Paths('tcp')
  slow.behaviours.set('websocket', 'mute')
  slow.behaviours.set('sse', { ...REFUSED, nobody: true })
  slow.delayMs = 200
  t.equal(kindOf(run(slow, 'websocket', 'tcp', 'sse', 'http2').outcome), 'tcp', 'what is under way goes on')
  t.end()
})

t.test('what all say is said once', (t) => {
  t.same(run(new Paths(), 'websocket', 'tcp').outcome, REFUSED)
  t.end()
})

t.test('a wrong certificate, and a proxy that refuses, are the reason whoever else failed', (t) => {
  const paths = new Paths()
  paths.behaviours.set('tcp', { reason: 'proxy', detail: 'no' })
  t.equal(kindOf(run(paths, 'websocket', 'tcp').outcome), 'proxy')
  paths.behaviours.set('sse', { reason: 'tls', detail: 'not trusted' })
  t.equal(kindOf(run(paths, 'websocket', 'tcp', 'sse').outcome), 'tls')
  t.end()
})

t.test('it is over after 20 s, whatever hangs', (t) => {
  const paths = new Paths()
  for (const kind of ['a', 'b', 'c', 'd']) paths.behaviours.set(kind, 'hangs')
  const { outcome, ms } = run(paths, 'a', 'b', 'c', 'd')
  t.equal(kindOf(outcome), 'silent')
  t.equal(ms, 20_000)
  t.same(paths.given, ['a', 'b', 'c', 'd'])
  t.equal(paths.dials.length, 4, 'what hangs keeps nobody else from a try')
  t.end()
})

t.test('given up, it tells nothing and leaves nothing', (t) => {
  const paths = new Paths('tcp')
  paths.behaviours.set('websocket', 'mute')
  const cancel = race(paths.candidates('websocket', 'tcp'), { environment: paths.environment, userAgent: 'test' }, () => t.fail('an outcome'))
  paths.run(() => paths.open('tcp').length === 1)
  cancel()
  paths.pass(60_000)
  t.equal(paths.open().length, 0)
  t.end()
})

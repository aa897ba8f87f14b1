// Which service a plain route's host is for, while its file is plain and a while after it is not.
import t from 'tap'
import { PlainRoutes } from '../../sidecar/plain-routes.ts'

function start() {
  let now = 0
  let timers: { at: number; then: () => void }[] = []
  const clock = {
    now: () => now,
    soon: (then: () => void) => then(),
    later: (ms: number, then: () => void) => {
      timers.push({ at: now + ms, then })
      return () => undefined
    },
  }
  const wait = (ms: number): void => {
    const end = now + ms
    for (;;) {
      const due = timers.find(({ at }) => at <= end)
      if (due === undefined) break
      timers = timers.filter((timer) => timer !== due)
      now = due.at
      due.then()
    }
    now = end
  }
  return { plain: new PlainRoutes(clock), wait, pending: () => timers.length }
}

t.test('a host leads to its service with a port and without', async (t) => {
  const { plain } = start()
  plain.set('a.test', 'a')
  t.same(['a.test', 'a.test:8080', 'b.test', 'xa.test', '[::1]:80', ''].map((host) => plain.serviceOf(host)), ['a', 'a', undefined, undefined, undefined, undefined])
})

t.test('what ended holds for 5 s, so that who asked by the file of before gets there', async (t) => {
  const { plain, wait, pending } = start()
  plain.set('a.test', 'a')
  plain.end('a.test')
  wait(3_000)
  plain.set('b.test', 'b')
  plain.end('b.test')
  plain.end('b.test')
  plain.end('never.test')
  wait(1_999)
  t.equal(plain.serviceOf('a.test'), 'a')
  wait(1)
  t.equal(plain.serviceOf('a.test'), undefined)
  t.equal(plain.serviceOf('b.test'), 'b')
  wait(10_000)
  t.equal(plain.serviceOf('b.test'), undefined)
  t.equal(pending(), 0)
})

t.test('what is plain again, or for another service, stays', async (t) => {
  const { plain, wait } = start()
  for (const service of ['a', 'other']) {
    plain.set('a.test', 'a')
    plain.end('a.test')
    wait(1_000)
    plain.set('a.test', service)
    wait(20_000)
    t.equal(plain.serviceOf('a.test'), service)
  }
})

// A gateway that leaves while something without end is under way: others are served on, and what takes too long breaks visibly.
import t from 'tap'
import { until } from '../harness/until.ts'
import { load, startHeldWorld, VISITORS } from './held-world.ts'
import { begin, read } from './visitor.ts'

t.test('while a stream without end is given its time, others are served on; then it breaks and they wait', async (t) => {
  const { gateway, nginx } = await startHeldWorld(t, { drain_ms: '4000' }, [/upstream prematurely closed/])
  const { request, answer } = begin({ port: nginx.port, path: '/events' })
  request.end()
  const stream = await answer
  const whole = read(stream)
  const visitors = load(nginx.port)
  let ended = false
  const code = gateway.end('SIGTERM').then((exit) => {
    ended = true
    return exit
  })
  await until('it leaves', () => gateway.events.some(({ event }) => event === 'leaving'))
  const before = visitors.served()
  await until('requests that came since are served', () => visitors.served() > before + 2 * VISITORS)
  t.notOk(ended, 'by the gateway that leaves')
  t.equal(await code, '0')
  t.match(await whole, { complete: false, bytes: 6 }, 'the visitor sees that it is not all')
  await gateway.start()
  const again = visitors.served()
  await until('requests are served again', () => visitors.served() > again + 2 * VISITORS)
  await visitors.stop()
  t.same(visitors.failures, [])
})

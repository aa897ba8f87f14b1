// The agent's end of a monitor stream keeps no place in its session once it is over, however the gateway ends it.
import t from 'tap'
import { processEnvironment } from '../../agent/environment.ts'
import { Monitor } from '../../agent/monitor.ts'
import { until } from '../harness/until.ts'
import { ScriptedStream } from './scripted.ts'

const counted = { version: 'postern/0', exchanges: 0, served: 0, failed: 0, sent_bytes: 0, received_bytes: 0 }

t.test('a gateway that has not ended its direction is told that nothing more is read', async (t) => {
  const stream = new ScriptedStream()
  const monitor = new Monitor(stream, processEnvironment().clock, () => counted)
  t.ok(monitor.open)
  await until('it answered', () => stream.ended)
  t.equal(stream.stopped?.name, 'cancelled')
  t.notOk(monitor.open)
  t.match(JSON.parse(stream.text), counted)
})

t.test('one that reads no more gets a reset, and nothing is measured', async (t) => {
  const stream = new ScriptedStream()
  const monitor = new Monitor(stream, processEnvironment().clock, () => counted)
  monitor.onStop()
  t.notOk(monitor.open)
  t.equal(stream.failure?.code.name, 'cancelled')
  t.equal(stream.head, undefined)
})

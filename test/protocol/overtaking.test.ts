// §7, §10: no frame of a stream overtakes one that was sent before it, however much waits.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { type Stream, StreamKind } from '../../protocol/stream.ts'
import { OK, opening, Recorder, SessionRecorder, settle } from './parties.ts'
import { pair } from './simulation.ts'

const WIDE = 'x'.repeat(6_000)

t.test('a body never leaves before the OPEN that waits in a later record', (t) => {
  const world = pair(1)
  const far: Recorder[] = []
  const sent: Buffer[] = []
  const told = new SessionRecorder((opened, stream) => {
    const recorder = new Recorder()
    recorder.stream = stream
    recorder.chunks.push(opened.body)
    far.push(recorder)
    return recorder
  })
  world.agent.events = told
  // More heads than a record holds; only behind those are bodies, too large to ride in OPEN.
  for (let i = 0; i < 60; i++) {
    const body = Buffer.alloc(i < 30 ? 0 : 5_000, i)
    sent.push(body)
    world.gateway.open(opening({ fields: [':method', 'POST', 'x-wide', WIDE], body, ended: true }), new Recorder())
  }
  settle(world)
  t.same(told.events, [])
  t.equal(far.length, 60)
  t.ok(far.every((recorder, i) => recorder.body.equals(sent[i]!)), 'every body is whole')
  t.end()
})

t.test('a body never leaves before the HEAD that waits in a later record', (t) => {
  const world = pair(1)
  const streams: Stream[] = []
  world.agent.events = new SessionRecorder((_opened, stream) => {
    streams.push(stream)
    return new Recorder()
  })
  const told = new SessionRecorder(() => errors.refused)
  world.gateway.events = told
  const askers = Array.from({ length: 60 }, () => new Recorder())
  for (const asker of askers) world.gateway.open(opening({ ended: true }), asker)
  settle(world)
  for (const [i, stream] of streams.entries()) stream.sendHead([...OK, 'x-wide', WIDE], Buffer.alloc(i < 30 ? 0 : 5_000, 1), true)
  settle(world)
  t.same(told.events, [])
  t.ok(askers.every((asker, i) => asker.body.length === (i < 30 ? 0 : 5_000)))
  t.end()
})

t.test('a standing stream that is not taken is refused in a sealed record', (t) => {
  const world = pair(1, { policy: 'never' })
  const told = new SessionRecorder(() => errors.refused)
  world.agent.events = told
  world.gateway.drain()
  const asker = new Recorder()
  world.agent.open(opening({ kind: StreamKind.control, fields: [] }), asker)
  world.clock.run(() => asker.events.length > 0, 500)
  t.same(asker.events, ['reset draining not begun'])
  t.notOk(told.events.some((event) => event.startsWith('end')))
  t.end()
})

t.test('a stream that its owner reset hears nothing of the end of its session', (t) => {
  const world = pair(1)
  const second = new Recorder()
  const first = new (class extends Recorder {
    override onReset(): void {
      second.stream!.reset(errors.cancelled, true)
    }
  })()
  world.gateway.open(opening(), first)
  second.stream = world.gateway.open(opening(), second)
  world.gateway.end(errors.agent_lost, 'the test says so')
  t.same(second.events, [])
  t.equal(world.gateway.streamCount, 0)
  t.end()
})

t.test('whoever knows how many streams were opened knows when all of them have come, though standing streams and answers overtake them', (t) => {
  const world = pair(1)
  world.agent.events = new SessionRecorder(() => errors.refused)
  for (let i = 0; i < 60; i++) world.gateway.open(opening({ fields: [':method', 'POST', 'x-wide', WIDE], body: Buffer.alloc(5_000), ended: true }), new Recorder())
  world.gateway.open(opening({ kind: StreamKind.monitor, fields: [] }), new Recorder())
  t.equal(world.gateway.openedCount, 60)
  t.notOk(world.gateway.allArrived)
  t.ok(world.clock.run(() => world.agent.cameCount > 0, 500))
  t.ok(world.agent.cameCount < 60, 'not all in one record')
  world.agent.drain()
  settle(world)
  t.equal(world.agent.cameCount, 60, 'those refused too')
  t.ok(world.gateway.allArrived && world.agent.allArrived)
  t.end()
})

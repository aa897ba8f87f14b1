// §10, §11: the states of a stream in both directions, its credit, and how small messages and large bodies travel.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { CREDIT_WINDOW_MAX_BYTES, FIRST_CREDIT_BYTES, INLINE_BODY_MAX_BYTES, SEND_QUEUE_BYTES, SESSION_BUDGET_BYTES } from '../../protocol/limits.ts'
import { StreamKind } from '../../protocol/stream.ts'
import { Echo, OK, open, opening, Recorder, Sender, SessionRecorder, settle, sha256 } from './parties.ts'
import { pair, type Pair, SETTINGS } from './simulation.ts'

const records = (world: Pair, from: 'left' | 'right'): Buffer[] => world.wire[from].sent.filter((message) => message[0]! >= 0x10 && message[0]! <= 0x13)

t.test('a small request and its small answer are one frame, one record and one message each way', (t) => {
  const world = pair(1, { policy: 'never' })
  const asker = new Recorder()
  world.agent.events = new SessionRecorder((_opened, stream) => {
    stream.sendHead(OK, Buffer.from('hello'), true)
    return new Recorder()
  })
  world.gateway.open(opening({ ended: true }), asker)
  settle(world)
  t.same(asker.events, ['head 200 ended'])
  t.equal(asker.body.toString(), 'hello')
  t.equal(records(world, 'right').length, 2, 'the request, and an ack of the answer')
  t.equal(records(world, 'left').length, 1, 'the answer, which brings the ack of the request with it')
  t.equal(world.agent.streamCount + world.gateway.streamCount, 0)
  t.end()
})

t.test('everything of one turn of the event loop leaves in one record', (t) => {
  const world = pair(1, { policy: 'never' })
  world.agent.events = new SessionRecorder(() => new Recorder())
  for (let i = 0; i < 50; i++) world.gateway.open(opening({ ended: true }), new Recorder())
  settle(world)
  t.equal(records(world, 'right').length, 1)
  t.end()
})

t.test('OPEN carries kind, uuid, service, fields in order and case, extension and body', (t) => {
  const world = pair(1)
  const fields = [':method', 'PUT', ':path', '/a?b', 'X-One', '1', 'x-one', '2', 'Empty', '']
  const { opened } = open(world, { fields, service: 'wiki', uuid: 'f'.repeat(32), extension: ['k', 'v'], body: Buffer.from('abc'), kind: StreamKind.tcp })
  t.same(opened.fields, fields)
  t.same(opened.extension, ['k', 'v'])
  t.equal(opened.service, 'wiki')
  t.equal(opened.uuid, 'f'.repeat(32))
  t.equal(opened.kind, StreamKind.tcp)
  t.equal(Buffer.from(opened.body).toString(), 'abc')
  t.equal(opened.ended, false)
  t.end()
})

t.test('a body over the inline bound follows in DATA frames, and its end too', (t) => {
  for (const bytes of [INLINE_BODY_MAX_BYTES - 1, INLINE_BODY_MAX_BYTES, INLINE_BODY_MAX_BYTES + 1, 200_000]) {
    const world = pair(bytes)
    const body = world.random.bytes(bytes)
    const asker = new Recorder()
    world.agent.events = new SessionRecorder((opened, stream) => new Echo(opened, stream))
    const own = world.gateway.open(opening({ body, ended: true }), asker)!
    asker.onData = (chunk) => {
      asker.chunks.push(chunk)
      own.consumed(chunk.length)
    }
    world.clock.run(() => asker.events.some((event) => event.startsWith('end')))
    t.equal(sha256(asker.body), sha256(body), `${String(bytes)} bytes`)
  }
  t.end()
})

t.test('interim heads pass before the final one', (t) => {
  const world = pair(1)
  const { far, asker } = open(world, { ended: true })
  far.sendHead([':status', '103', 'link', '</a>'], undefined, false)
  far.sendHead([':status', '100'], undefined, false)
  far.sendHead([':status', '101'], undefined, false)
  settle(world)
  t.same(asker.events, ['head 103', 'head 100', 'head 101'])
  t.throws(() => far.sendHead(OK, undefined, true), /a head while the direction is in body/)
  t.end()
})

t.test('each direction ends on its own: half-close keeps the other one open', (t) => {
  const world = pair(1)
  const { own, far, asker, answerer } = open(world)
  own.end(['a', 'b'])
  far.sendHead(OK, undefined, false)
  settle(world)
  t.same(answerer.events, ['end a=b'])
  far.write(Buffer.from('late'))
  settle(world)
  t.same(asker.events, ['head 200', 'data 4'])
  far.end(['t', '1'])
  settle(world)
  t.same(asker.events, ['head 200', 'data 4', 'end t=1'])
  t.equal(world.agent.streamCount + world.gateway.streamCount, 0)
  t.end()
})

t.test('a standing stream that overtakes others opened before it is no fault', (t) => {
  for (const policy of ['always', 'never'] as const) {
    const world = pair(1, { policy })
    const kinds: number[] = []
    world.agent.events = new SessionRecorder((opened) => (kinds.push(opened.kind), new Recorder()))
    world.gateway.open(opening(), new Recorder())
    world.gateway.open(opening({ kind: StreamKind.monitor }), new Recorder())
    settle(world)
    t.same(kinds, [StreamKind.monitor, StreamKind.exchange])
    t.notOk(world.agent.ended)
  }
  t.end()
})

t.test('STOP ends one direction only, and what still comes of it is dropped', (t) => {
  const world = pair(1)
  const { own, far, asker, answerer } = open(world)
  far.sendHead(OK, undefined, false)
  far.stop(errors.cancelled)
  own.write(Buffer.from('crossing'))
  settle(world)
  t.same(answerer.events, [])
  t.same(asker.events, ['head 200', 'stop cancelled'])
  t.equal(own.write(Buffer.from('dropped')), true)
  own.end()
  far.end()
  settle(world)
  t.same(asker.events, ['head 200', 'stop cancelled', 'end '])
  t.equal(world.agent.streamCount + world.gateway.streamCount, 0)
  t.end()
})

t.test('RESET ends both directions at once, and nothing is told after it', (t) => {
  const world = pair(1)
  const { own, far, asker, answerer } = open(world)
  far.sendHead(OK, Buffer.alloc(100_000), false)
  far.reset(errors.origin_reset, true)
  own.write(Buffer.from('crossing'))
  settle(world)
  t.same(answerer.events, [])
  t.equal(asker.events.at(-1), 'reset origin_reset begun')
  t.equal(asker.events.filter((event) => event.startsWith('reset')).length, 1)
  own.write(Buffer.from('after'))
  own.end()
  own.reset(errors.cancelled, true)
  settle(world)
  t.equal(world.agent.streamCount + world.gateway.streamCount, 0)
  t.notOk(world.agent.ended)
  t.end()
})

t.test('a refused stream is reset as not begun', (t) => {
  const world = pair(1)
  const asker = new Recorder()
  world.agent.events = new SessionRecorder(() => errors.not_served)
  world.gateway.open(opening(), asker)
  settle(world)
  t.same(asker.events, ['reset not_served not begun'])
  t.end()
})

t.test('a kind that is not known is refused, the session goes on', (t) => {
  const world = pair(1)
  const asker = new Recorder()
  world.agent.events = new SessionRecorder(() => new Recorder())
  world.gateway.open(opening({ kind: 9 as StreamKind }), asker)
  settle(world)
  t.same(asker.events, ['reset refused not begun'])
  t.notOk(world.agent.ended)
  t.end()
})

t.test('after DRAIN the peer opens nothing, and what crossed it is refused as draining', (t) => {
  const world = pair(1)
  const { own, far, asker } = open(world)
  world.agent.drain()
  const crossing = new Recorder()
  world.gateway.open(opening(), crossing)
  settle(world)
  t.same(crossing.events, ['reset draining not begun'])
  t.same(world.gateway.peerDraining, true)
  t.equal(world.gateway.open(opening(), new Recorder()), undefined)
  far.sendHead(OK, undefined, true)
  own.end()
  settle(world)
  t.same(asker.events, ['head 200 ended'], 'what was open goes on to its end')
  t.end()
})

t.test('the peer takes so many streams as it said and no more', (t) => {
  const world = pair(1, { settings: { maxStreams: 3 } })
  world.agent.events = new SessionRecorder(() => new Recorder())
  const streams = [1, 2, 3].map(() => world.gateway.open(opening(), new Recorder()))
  t.ok(streams.every((stream) => stream !== undefined))
  t.equal(world.gateway.open(opening(), new Recorder()), undefined)
  streams[0]!.reset(errors.cancelled, false)
  t.ok(world.gateway.open(opening(), new Recorder()))
  t.end()
})

t.test('SETTINGS change what the peer may do', (t) => {
  const world = pair(1)
  world.agent.announce({ firstCredit: 10, maxStreams: 1 })
  settle(world)
  t.same(world.gateway.peerSettings, { firstCredit: 10, maxStreams: 1 })
  t.end()
})

// --- credit -------------------------------------------------------------------------------------------------------------

t.test('a sender stops at its credit and goes on when the consumer took the bytes', (t) => {
  const world = pair(1)
  const { own, far, asker } = open(world, { ended: true })
  far.sendHead(OK, undefined, false)
  far.write(Buffer.alloc(FIRST_CREDIT_BYTES + 1))
  settle(world)
  t.equal(asker.body.length, FIRST_CREDIT_BYTES, 'no byte beyond the credit')
  own.consumed(FIRST_CREDIT_BYTES)
  settle(world)
  t.equal(asker.body.length, FIRST_CREDIT_BYTES + 1)
  t.end()
})

t.test('write says stop at the queue bound, and onDrain says go on', (t) => {
  const world = pair(1)
  const { own, far, answerer } = open(world, { ended: true })
  far.sendHead(OK, undefined, false)
  t.equal(far.write(Buffer.alloc(SEND_QUEUE_BYTES - 1)), true)
  t.equal(far.write(Buffer.alloc(1)), false)
  settle(world)
  t.same(answerer.events, ['drain'])
  t.equal(far.write(Buffer.alloc(SEND_QUEUE_BYTES)), false)
  settle(world)
  t.same(answerer.events, ['drain'], 'no credit, no drain')
  own.consumed(SEND_QUEUE_BYTES)
  settle(world)
  t.same(answerer.events, ['drain', 'drain'])
  t.end()
})

t.test('a window that is taken quickly doubles up to its bound, a slow reader keeps the first one', (t) => {
  for (const [takeAfterMs, expected] of [[0, CREDIT_WINDOW_MAX_BYTES], [5_000, FIRST_CREDIT_BYTES]] as const) {
    const world = pair(1, { delayMs: () => 10 })
    const { own, far, asker, answerer } = open(world, { ended: true })
    let ahead = 0
    let most = 0
    asker.onData = (chunk) => {
      ahead += chunk.length
      most = Math.max(most, ahead)
      const take = (): void => {
        ahead -= chunk.length
        own.consumed(chunk.length)
      }
      if (takeAfterMs === 0) take()
      else world.clock.later(takeAfterMs, take)
    }
    far.sendHead(OK, undefined, false)
    // A sender that never runs dry.
    const filler = Buffer.alloc(SEND_QUEUE_BYTES)
    answerer.onDrain = () => void far.write(filler)
    far.write(filler)
    world.clock.run(() => false, takeAfterMs === 0 ? 1_500 : 20_000)
    const held = world.gateway.budget.usedBytes
    t.equal(held, expected, `${String(takeAfterMs)} ms: the window`)
    t.ok(most <= expected)
  }
  t.end()
})

t.test('a stalled reader keeps no other stream waiting', (t) => {
  const world = pair(1)
  const stalled = new Recorder()
  world.agent.events = new SessionRecorder((opened, stream) => {
    if (opened.service === 'demo') return new Echo(opened, stream)
    stream.sendHead(OK, undefined, false)
    stream.write(Buffer.alloc(1_000_000))
    return new Recorder()
  })
  for (let i = 0; i < 500; i++) world.gateway.open(opening({ service: 'endless', ended: true }), stalled)
  settle(world)
  const body = world.random.bytes(100_000)
  const sender = new Sender(body, () => 10_000)
  sender.start(world.gateway.open(opening(), sender)!)
  t.ok(world.clock.run(() => sender.receivedHash !== undefined, 5_000))
  t.equal(sender.receivedHash, sha256(body))
  t.ok(world.gateway.budget.usedBytes < SESSION_BUDGET_BYTES, 'newcomers begin small when three quarters of the budget are used')
  t.end()
})

t.test('the budget is given back when streams are gone', (t) => {
  const world = pair(1)
  world.agent.events = new SessionRecorder((opened, stream) => new Echo(opened, stream))
  const sender = new Sender(world.random.bytes(2_000_000), () => 50_000)
  sender.start(world.gateway.open(opening(), sender)!)
  world.clock.run(() => sender.receivedHash !== undefined)
  const reset = world.gateway.open(opening(), new Recorder())!
  reset.reset(errors.cancelled, true)
  settle(world)
  for (const session of [world.agent, world.gateway]) {
    t.equal(session.budget.usedBytes, 0)
    t.equal(session.environment.budget.usedBytes, 0)
  }
  t.end()
})

t.test('a first credit that was raised by SETTINGS is honoured, and so is the one before while it is under way', (t) => {
  for (const firstCredit of [200_000, 1_000]) {
    const world = pair(1)
    const told = new SessionRecorder(() => new Recorder())
    world.agent.events = told
    world.agent.announce({ ...SETTINGS, firstCredit })
    if (firstCredit > SETTINGS.firstCredit) settle(world)
    const stream = world.gateway.open(opening(), new Recorder())!
    stream.write(Buffer.alloc(Math.max(firstCredit, SETTINGS.firstCredit)))
    settle(world)
    t.same(told.events, [], String(firstCredit))
  }
  t.end()
})

// A session keeps as many channels as it may have, by the best way there is, and none of what happens to them is lost on it.
import t from 'tap'
import type { AgentOptions } from '../../agent/agent.ts'
import { errors } from '../../protocol/errors.ts'
import { Random } from '../protocol/simulation.ts'
import { Paths, REFUSED, Traveller } from './paths.ts'

const KINDS = ['websocket', 'tcp', 'sse'] as const
const CLIMB = { firstMs: 30_000, mostMs: 600_000 }

/** An agent that serves; its gateway grants so many lanes. */
async function start(working: readonly string[], more: Partial<AgentOptions> = {}, granted = 16): Promise<{ paths: Paths; traveller: Traveller }> {
  const paths = new Paths(...working)
  paths.lanes = granted
  const traveller = new Traveller(paths, KINDS, { climb: CLIMB, ...more })
  await traveller.serving()
  return { paths, traveller }
}

const told = (traveller: Traveller, ...names: readonly string[]): unknown[] => traveller.events.filter(({ event }) => names.includes(event))

t.test('it has a channel for each lane that it is granted, and each lane one of its own', async (t) => {
  for (const [connections, granted, channels] of [[1, 4, 1], [3, 4, 3], [16, 5, 5]] as const) {
    const { paths, traveller } = await start(['websocket'], { connections }, granted)
    const session = paths.sessions[0]!
    t.ok(paths.run(() => session.carriers.length === channels), `${String(channels)} channels`)
    paths.pass(5_000)
    t.equal(paths.open().length, channels, 'and no more')
    t.equal(new Set(session.rides).size, channels)
    t.same(told(traveller, 'moved', 'lost', 'resumed', 'failed'), [])
  }
})

t.test('one of several channels that is lost is replaced at once, and its lane never without one for long', async (t) => {
  const { paths, traveller } = await start(['websocket'], { connections: 4 })
  const session = paths.sessions[0]!
  const all = (): boolean => session.carriers.length === 4 && new Set(session.rides).size === 4
  paths.run(all)
  paths.pass(1_000)
  for (let cut = 0; cut < 8; cut++) {
    const began = paths.clock.now()
    paths.open()[cut % 4]!.cut('a test')
    t.ok(paths.run(() => session.rides.every((ride) => ride !== undefined)), 'every lane rides')
    t.ok(paths.clock.now() - began <= 25, 'a message and its answer later')
    t.ok(paths.run(all), 'each on a channel of its own')
    t.ok(paths.clock.now() - began <= 600)
    paths.pass(10_000)
  }
  t.equal(paths.open().length, 4)
  t.equal(paths.sessions.length, 1)
  t.same(told(traveller, 'lost', 'resumed'), [])
  t.match(told(traveller, 'moved')[0], { from: 'websocket directly', to: 'websocket directly', why: 'a test' })
})

t.test('all lost at once, the session resumes over one and then has all again', async (t) => {
  const { paths, traveller } = await start(['websocket'], { connections: 4 })
  const session = paths.sessions[0]!
  paths.run(() => session.carriers.length === 4)
  paths.pass(20_000)
  for (const wire of paths.open()) wire.cut('a test')
  t.match(traveller.saw('resumed'), { channel: 'websocket' })
  t.ok(paths.run(() => session.carriers.length === 4 && new Set(session.rides).size === 4))
  t.match(told(traveller, 'lost'), [{ reason: 'a test' }])
  t.equal(paths.sessions.length, 1)
})

t.test('what was lost falls back at once to another kind, says why, and climbs back when the better one works', async (t) => {
  const { paths, traveller } = await start(['websocket', 'tcp'])
  paths.pass(20_000)
  paths.behaviours.set('websocket', { reason: 'http', detail: 'HTTP 403' })
  const cutAt = paths.clock.now()
  paths.open()[0]!.cut('the proxy cut it')
  t.match(traveller.saw('moved'), { from: 'websocket directly', to: 'tcp directly', why: 'the proxy cut it' })
  t.ok(paths.clock.now() - cutAt < 300)
  paths.pass(29_000)
  const before = paths.dials.length
  paths.pass(2_000)
  t.equal(paths.dials.length, before + 1, 'it looked once, after 30 s')
  paths.pass(58_000)
  t.equal(paths.dials.length, before + 1)
  paths.pass(2_000)
  t.equal(paths.dials.length, before + 2, 'and again after 60 s')
  paths.behaviours.set('websocket', 'works')
  t.match(traveller.saw('moved', 2), { from: 'tcp directly', to: 'websocket directly', why: 'websocket works again' })
  t.ok(paths.run(() => paths.open('tcp').length === 0), 'the lesser one is closed')
  t.same(paths.rides, ['websocket'])
  t.equal(paths.sessions.length, 1)
  const quiet = paths.dials.length
  paths.pass(3_600_000)
  t.equal(paths.dials.length, quiet, 'on the best there is nothing to look for')
})

t.test('it looks for something better ever more seldom, ten minutes apart at most', async (t) => {
  const { paths } = await start(['sse'])
  const began = paths.clock.now()
  paths.pass(3_600_000)
  const looks = paths.dials.filter((dial) => dial.startsWith('tcp')).map((dial) => Math.round((Number(dial.split(' ').at(-1)) - began) / 1_000)).filter((second) => second > 0)
  t.same(looks, [30, 90, 210, 450, 930, 1530, 2130, 2730, 3330])
})

t.test('several channels of a lesser kind all climb', async (t) => {
  const { paths, traveller } = await start(['tcp'], { connections: 3 })
  const session = paths.sessions[0]!
  paths.run(() => session.carriers.length === 3)
  paths.behaviours.set('websocket', 'works')
  traveller.saw('moved')
  t.ok(paths.run(() => paths.open('websocket').length === 3 && paths.open('tcp').length === 0))
  t.same(paths.rides, ['websocket', 'websocket', 'websocket'])
})

t.test('a channel over which nothing comes any more is left for another within seconds, and closed', async (t) => {
  const { paths, traveller } = await start(['websocket', 'tcp'])
  paths.pass(15_000)
  const [wire] = paths.open()
  wire!.left.deaf = true
  paths.behaviours.set('websocket', 'mute')
  const began = paths.clock.now()
  t.match(traveller.saw('moved'), { to: 'tcp directly', why: 'nothing comes over it any more' })
  t.ok(paths.clock.now() - began < 13_000, 'the next beat, 2 s of patience, a head start')
  t.ok(paths.run(() => !wire!.isOpen))
  t.same(told(traveller, 'lost'), [], 'the session was never without one')
})

t.test('a channel that falls silent just after it was proven is not waited for', async (t) => {
  const { paths, traveller } = await start(['websocket', 'tcp'])
  paths.pass(20_000)
  paths.behaviours.set('websocket', 'fades')
  paths.behaviours.set('tcp', REFUSED)
  const began = paths.clock.now()
  paths.open()[0]!.cut('a test')
  paths.run(() => paths.open('websocket').length === 1)
  paths.pass(500)
  paths.behaviours.set('websocket', 'works')
  traveller.saw('resumed')
  t.ok(paths.clock.now() - began < 3_000)
  paths.pass(30_000)
  t.equal(paths.open().length, 1, 'the silent one is gone')
  t.equal(paths.sessions.length, 1)
})

t.test('the answer that a better channel is open gets lost: its lanes are heard where they rode before, soon', async (t) => {
  const { paths, traveller } = await start(['tcp'])
  const session = paths.sessions[0]!
  paths.behaviours.set('websocket', 'works')
  t.ok(paths.run(() => paths.open('websocket').some(({ right }) => session.carriers.includes(right))), 'the gateway has its lane there')
  paths.open('websocket')[0]!.left.deaf = true
  const began = paths.clock.now()
  t.ok(paths.run(() => paths.rides[0] === 'tcp'))
  t.ok(paths.clock.now() - began < 3_000)
  paths.pass(30_000)
  t.match(traveller.saw('moved'), { to: 'websocket directly' }, 'it looks again')
})

t.test('channels that overtake one another are no fault of their kind', async (t) => {
  const { paths, traveller } = await start(['websocket', 'tcp'], { connections: 16 })
  const session = paths.sessions[0]!
  const chance = new Random(1)
  Object.defineProperty(paths, 'delayMs', { get: () => 5 + chance.below(150) })
  for (let cut = 0; cut < 4; cut++) {
    paths.pass(20_000)
    for (const wire of paths.open()) wire.cut('a test')
    t.ok(paths.run(() => new Set(session.rides).size === 16, 5_000), 'each lane has its own again')
  }
  t.same(new Set(paths.rides), new Set(['websocket']))
  t.same(told(traveller, 'failed'), [])
})

t.test('a link of three seconds there and back is far, not stalled', async (t) => {
  const paths = new Paths('websocket')
  paths.delayMs = 1_500
  const traveller = new Traveller(paths, KINDS, { climb: CLIMB })
  await traveller.serving()
  // The channel of the login learns how far it is by its first beat only.
  traveller.saw('moved')
  const dials = paths.dials.length
  paths.pass(300_000)
  t.equal(paths.dials.length, dials)
  t.same(told(traveller, 'lost', 'resumed'), [])
})

t.test('one that answers late is used or closed, and nothing is left over', async (t) => {
  const { paths } = await start(['websocket'], { connections: 2 })
  const session = paths.sessions[0]!
  paths.run(() => session.carriers.length === 2)
  paths.pass(20_000)
  // A message and its answer take longer than a channel is waited for.
  paths.delayMs = 1_200
  for (const wire of paths.open()) wire.cut('a test')
  paths.pass(60_000)
  t.equal(paths.open().length, 2)
  t.equal(new Set(session.rides).size, 2)
})

t.test('asked to move it does, and tries again for as long as that fails', async (t) => {
  const { paths, traveller } = await start(['websocket'])
  paths.pass(15_000)
  const session = paths.sessions[0]!
  const [old] = session.carriers
  paths.behaviours.set('websocket', { reason: 'unreachable', detail: 'nginx is away' })
  session.askToMove(old!, errors.gateway_leaving)
  paths.pass(20_000)
  t.ok(paths.dials.length > 10, 'it tries')
  t.same(told(traveller, 'lost', 'failed'), [], 'and serves')
  paths.behaviours.set('websocket', 'works')
  t.match(traveller.saw('moved'), { why: 'the gateway asked for another connection' })
  t.ok(paths.run(() => session.carriers.length === 1 && session.carriers[0] !== old))
})

t.test('only the lanes of the channel that is to be left move', async (t) => {
  const { paths } = await start(['websocket'], { connections: 3 })
  const session = paths.sessions[0]!
  paths.run(() => session.carriers.length === 3 && new Set(session.rides).size === 3)
  const before = session.rides
  session.askToMove(before[1]!, errors.gateway_leaving)
  t.ok(paths.run(() => session.rides[1] !== before[1]))
  paths.pass(5_000)
  t.same([session.rides[0], session.rides[2]], [before[0], before[2]])
  t.equal(session.carriers.length, 3)
})

t.test('a kind whose channels keep breaking young is left for another, and tried again when it may have got better', async (t) => {
  const { paths, traveller } = await start(['websocket', 'tcp'])
  for (let cut = 1; cut <= 2; cut++) {
    paths.pass(1_000)
    paths.open('websocket')[0]!.cut('a proxy that cuts')
    traveller.saw('resumed', cut)
  }
  t.same(paths.rides, ['tcp'])
  paths.pass(200_000)
  t.same(paths.rides, ['tcp'], 'it is not tempted by a dial that works')
  t.match(traveller.saw('moved', 2), { to: 'websocket directly' })
})

t.test('within the grace nothing is lost with the last channel, and the session is the same', async (t) => {
  const { paths, traveller } = await start(['websocket'])
  paths.pass(20_000)
  paths.behaviours.clear()
  paths.open()[0]!.cut('the cable')
  t.match(traveller.saw('failed'), { reason: 'unreachable', detail: 'nobody is there' })
  paths.pass(20_000)
  paths.behaviours.set('sse', 'works')
  traveller.saw('resumed')
  t.match(traveller.saw('moved'), { to: 'sse directly', why: 'the cable' })
  t.equal(paths.sessions.length, 1)
})

t.test('a gateway that knows the session no more gets a new one over the same way', async (t) => {
  const { paths, traveller } = await start(['websocket'])
  paths.pass(20_000)
  paths.sessions[0]!.end(errors.gateway_leaving, 'restart')
  t.match(traveller.saw('lost'), { reason: errors.gateway_leaving.says })
  traveller.saw('serving', 2)
  t.equal(paths.sessions.length, 2)
})

t.test('a gateway that ends every session at once is asked ever more seldom', async (t) => {
  const paths = new Paths('websocket')
  const traveller = new Traveller(paths, ['websocket'])
  await traveller.agent.start()
  paths.run(() => {
    paths.sessions.at(-1)?.end(errors.gateway_fault, 'a test')
    return false
  }, 300_000)
  t.ok(paths.sessions.length < 60, `${String(paths.sessions.length)} logins in five minutes`)
})

t.test('closed, it leaves nothing behind', async (t) => {
  const { paths, traveller } = await start(['websocket'], { connections: 4 })
  await traveller.agent.close()
  paths.pass(60_000)
  t.equal(paths.open().length, 0)
  const { paths: racing, traveller: late } = await start(['tcp'])
  racing.behaviours.set('websocket', 'mute')
  racing.run(() => racing.open('websocket').length === 1)
  await late.agent.close()
  racing.pass(60_000)
  t.equal(racing.open().length, 0)
})

t.test('it says which channels it has when that changes, and not more often than every ten seconds', async (t) => {
  const { paths } = await start(['websocket', 'tcp'])
  paths.pass(3_600_000)
  t.match(paths.said, [{ channels: [{ kind: 'websocket', way: 'direct', round_trip_ms: null, lanes: [0] }], exchanges: 0 }])
  t.equal(paths.said.length, 1, 'an idle hour is no news')
  paths.behaviours.delete('websocket')
  paths.open()[0]!.cut('a test')
  paths.pass(5_000)
  t.match(paths.said.at(-1), { channels: [{ kind: 'tcp' }] })
  paths.behaviours.set('websocket', 'works')
  for (let i = 0; i < 20; i++) {
    paths.pass(1_000)
    paths.open()[0]?.cut('a test')
  }
  t.ok(paths.said.length <= 5, `${String(paths.said.length)} lines`)
})

t.test('whatever happens to its channels, once it is over every lane has one of its own, of the best kind', async (t) => {
  for (let seed = 1; seed <= 100; seed++) {
    const { paths, traveller } = await start([...KINDS], { connections: 1 + (seed % 4) })
    const chance = new Random(seed)
    const behaviours = ['works', 'works', 'mute', 'fades', 'hangs', { reason: 'http', detail: 'no' }] as const
    for (let turn = 0; turn < 40; turn++) {
      const wires = paths.open()
      const wire = wires[chance.below(Math.max(1, wires.length))]
      const session = paths.sessions.at(-1)!
      const what = chance.below(6)
      if (what === 0) wire?.cut('chance')
      else if (what === 1) for (const each of wires) each.cut('chance')
      else if (what === 2 && wire !== undefined) wire.left.deaf = true
      else if (what === 3 && wire !== undefined) wire.right.deaf = true
      else if (what === 4 && session.carriers.length > 0) session.askToMove(session.carriers[chance.below(session.carriers.length)]!, errors.gateway_leaving)
      else paths.behaviours.set(KINDS[chance.below(3)]!, behaviours[chance.below(behaviours.length)]!)
      paths.pass(chance.below(4_000))
    }
    for (const kind of KINDS) paths.behaviours.set(kind, 'works')
    // A session whose grace is over is not taken up again; the best kind may be shunned for five minutes, and looked for after ten.
    paths.pass(1_500_000)
    const session = paths.sessions.at(-1)!
    const lanes = 1 + (seed % 4)
    t.same(paths.rides, Array.from({ length: lanes }, () => 'websocket'), `seed ${String(seed)}: every lane on the best kind`)
    t.equal(new Set(session.rides).size, lanes, `seed ${String(seed)}: each on its own`)
    t.equal(paths.open().length, lanes, `seed ${String(seed)}: and no channel beside`)
    await traveller.agent.close()
  }
})

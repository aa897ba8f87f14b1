// Which agent gets an exchange, when a request waits for one, and what presence says meanwhile.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import type { Stream } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { answers, events, type Origin, Rig } from './gateway-rig.ts'

t.test('the agent with least in flight is picked', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const served = [0, 0]
  const held: Stream[] = []
  const holds = (which: number): Origin => (_opening, stream) => {
    served[which]!++
    held.push(stream)
    return events()
  }
  await rig.agent('a', holds(0))
  await rig.agent('a', holds(1))
  for (let i = 0; i < 10; i++) rig.ask('demo')
  await until('all arrived', () => held.length === 10)
  t.same(served, [5, 5])
})

t.test('agents equally idle take turns', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const served = [0, 0]
  const counts = (which: number): Origin => (opening, stream) => {
    served[which]!++
    return answers(200, '')(opening, stream)
  }
  await rig.agent('a', counts(0))
  await rig.agent('a', counts(1))
  for (let i = 0; i < 10; i++) await rig.ask('demo').done()
  t.same(served, [5, 5])
})

t.test('an unknown service, and one that nobody serves, fail at once', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  t.equal(rig.ask('other').failure?.name, 'no_service')
  t.equal(rig.ask('demo').failure?.name, 'service_away')
  await rig.agent('a', answers(200, ''), [])
  t.equal(rig.ask('demo').failure?.name, 'service_away')
})

t.test('an agent serves only what the directory allows it', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  rig.allow('b', ['secret'])
  await rig.agent('a', answers(200, ''), ['demo', 'secret', 'demo'])
  t.same(rig.presence, ['demo up'])
  t.equal(rig.ask('secret').failure?.name, 'service_away')
  t.equal(await rig.ask('demo').done(), 'head 200, end')
})

t.test('a resuming agent is passed over while there is another', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const first = await rig.agent('a', answers(200, 'first'))
  await rig.agent('a', answers(200, 'second'))
  await first.cut()
  for (let i = 0; i < 4; i++) {
    const asked = rig.ask('demo')
    await asked.done()
    t.equal(asked.body.toString(), 'second')
  }
})

t.test('a request waits, body and all, for the only agent while it is resuming', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let got = 0
  const agent = await rig.agent('a', (opening, stream) => {
    got += opening.body.length
    stream.consumed(opening.body.length)
    return events({
      onData(chunk) {
        got += chunk.length
        stream.consumed(chunk.length)
      },
      onEnd: () => stream.sendHead([':status', '200'], undefined, true),
    })
  })
  await agent.cut()
  const asked = rig.ask('demo', { method: 'POST', complete: false })
  t.ok(asked.exchange.write(Buffer.alloc(30_000)))
  t.notOk(asked.exchange.write(Buffer.alloc(40_000)), 'what is held has a bound')
  t.notOk(asked.over)
  await agent.resume()
  await until('it may go on', () => asked.drains > 0)
  asked.exchange.write(Buffer.alloc(10_000))
  asked.exchange.end()
  t.equal(await asked.done(), 'head 200, end')
  t.equal(got, 80_000)
  t.same(rig.presence, ['demo up'], 'resuming is presence')
})

t.test('a request does not wait for ever', async (t) => {
  const rig = await Rig.start(t, { gatewayTimes: { agentWaitMs: 30 } })
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', answers(200, ''))
  await agent.cut()
  const asked = rig.ask('demo', { body: Buffer.from('x') })
  const left = rig.ask('demo')
  left.exchange.cancel(errors.cancelled)
  t.equal(await asked.done(), 'fail service_away')
  t.same(left.events, [])
  t.equal(rig.gateway.underWay, 0)
})

t.test('those who wait are bounded', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', answers(200, ''))
  await agent.cut()
  const asked = Array.from({ length: 1_100 }, () => rig.ask('demo'))
  t.equal(asked.filter(({ failure }) => failure?.name === 'gateway_full').length, 76)
  await agent.resume()
  await asked[0]!.done()
  await Promise.all(asked.map((one) => one.done()))
  t.equal(asked.filter(({ status }) => status === 200).length, 1_024)
})

t.test('who waits hears at once when the last hope is gone', async (t) => {
  const rig = await Rig.start(t, { times: { graceMs: 20 } })
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', answers(200, ''))
  await agent.cut()
  t.equal(await rig.ask('demo').done(), 'fail service_away')
  t.same(rig.presence, ['demo up', 'demo away'])
})

t.test('a gateway that has just begun waits for agents to come', async (t) => {
  const rig = await Rig.start(t, { settled: false })
  rig.allow('a', ['demo'])
  const asked = rig.ask('demo')
  t.notOk(asked.over)
  t.equal(rig.ask('other').failure?.name, 'no_service')
  await rig.agent('a', answers(200, ''))
  t.equal(await asked.done(), 'head 200, end')
})

t.test('an agent that drains gets nothing new and ends what it has', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let stream: Stream | undefined
  const first = await rig.agent('a', (_opening, opened) => {
    stream = opened
    return events()
  })
  const asked = rig.ask('demo')
  await until('it arrived', () => stream !== undefined)
  await rig.agent('a', answers(200, 'second'))
  first.session.drain()
  await until('the gateway knows', () => [...rig.registry.members()].some((member) => member.session.peerDraining))
  for (let i = 0; i < 4; i++) {
    const another = rig.ask('demo')
    await another.done()
    t.equal(another.body.toString(), 'second')
  }
  stream!.sendHead([':status', '200'], Buffer.from('first'), true)
  t.equal(await asked.done(), 'head 200, end')
  t.same(rig.presence, ['demo up'])
})

t.test('agents at their limit of streams take no more', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', () => events())
  agent.session.announce({ firstCredit: 65_536, maxStreams: 2 })
  const [ours] = [...rig.registry.members()]
  await until('the gateway knows', () => ours!.session.peerSettings.maxStreams === 2)
  rig.ask('demo')
  const second = rig.ask('demo')
  t.equal(rig.ask('demo').failure?.name, 'refused')
  second.exchange.cancel(errors.cancelled)
  t.notOk(rig.ask('demo').over)
})

t.test('an agent may serve more and less as it goes', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo', 'more'])
  const agent = await rig.agent('a', answers(200, ''), ['demo'])
  agent.serve(['more'])
  await until('presence follows', () => rig.presence.length === 3)
  t.same(rig.presence, ['demo up', 'more up', 'demo away'])
})

t.test('two services and two agents keep to themselves', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['one'])
  rig.allow('b', ['two'])
  const first = await rig.agent('a', answers(200, 'one'))
  await rig.agent('b', answers(200, 'two'))
  const one = rig.ask('one')
  const two = rig.ask('two')
  await one.done()
  await two.done()
  t.equal(one.body.toString() + two.body.toString(), 'onetwo')
  await first.cut()
  const waits = rig.ask('one')
  const served = rig.ask('two')
  await served.done()
  t.notOk(waits.over)
})

t.test('an agent that falls silent is away when its time and its grace are over', async (t) => {
  const rig = await Rig.start(t, { times: { heartbeatMs: 200, deadAfterMs: 1_000, graceMs: 40 } })
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', answers(200, ''))
  agent.fallSilent()
  const asked = rig.ask('demo')
  t.equal(await asked.done(), 'fail agent_lost')
  t.same(rig.presence, ['demo up', 'demo away'])
  t.same(rig.notes.slice(1), ['detached a', 'ended a agent_lost'])
  t.equal(rig.ask('demo').failure?.name, 'service_away')
})

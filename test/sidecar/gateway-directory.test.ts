// Who may be in: wrong secrets, revoked agents, agents that log in twice, and changes of what is configured while they are there.
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { Session } from '../../protocol/session.ts'
import { until } from '../harness/until.ts'
import { answers, events, Rig } from './gateway-rig.ts'

t.test('a wrong secret and an unknown id get no session and the same answer', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  for (const [id, secret] of [['a', 'wrong'], ['nobody', 'wrong']] as const) {
    const { outcome } = await rig.login(id, { secret })
    t.notOk(outcome instanceof Session)
    // The agent finds out first: what the gateway proved does not fit its secret.
    t.equal('code' in outcome && outcome.code.name, 'unauthenticated')
  }
  t.same([...rig.registry.members()], [])
  t.same(rig.presence, [])
})

t.test('a revoked agent is out at once, exchanges and all, and stays out', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', () => events())
  const asked = rig.ask('demo')
  rig.directory.setAgent('a', undefined)
  t.equal(asked.failure?.name, 'agent_lost')
  t.same(rig.presence, ['demo up', 'demo away'])
  await until('the agent knows', () => agent.ended !== '')
  t.equal(agent.ended, 'revoked')
  const { outcome } = await rig.login('a')
  t.equal('code' in outcome && outcome.code.name, 'unauthenticated')
})

t.test('a new secret ends the sessions of the old one', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', answers(200, ''))
  rig.allow('a', ['demo'])
  await until('the agent knows', () => agent.ended === 'revoked')
  await rig.agent('a', answers(200, ''))
  t.equal(await rig.ask('demo').done(), 'head 200, end')
})

t.test('a secret that changes during the handshake lets the old one not in', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const old = rig.directory.agent('a')!
  const recordOf = rig.registry.recordOf.bind(rig.registry)
  rig.registry.recordOf = (id) => {
    const record = recordOf(id)
    rig.directory.setAgent('a', { ...old, record: `${old.record}x` })
    return record
  }
  const { outcome } = await rig.login('a')
  t.equal('code' in outcome && outcome.code.name, 'revoked')
})

t.test('changes of what an agent may serve reach it and the visitors', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  rig.directory.setService('more', ['more.localhost'])
  const agent = await rig.agent('a', answers(200, ''), ['demo', 'more'])
  const entry = rig.directory.agent('a')!
  rig.directory.setAgent('a', { ...entry, services: ['demo', 'more'] })
  t.same(rig.presence, ['demo up', 'more up'])
  rig.directory.setService('more', ['more.localhost', 'most.localhost'])
  rig.directory.setAgent('a', { ...entry, services: ['more'] })
  t.same(rig.presence, ['demo up', 'more up', 'demo away'])
  rig.directory.setService('more', undefined)
  t.same(rig.presence, ['demo up', 'more up', 'demo away', 'more away'])
  t.equal(rig.ask('more').failure?.name, 'no_service')
  await until('the agent heard all', () => agent.pushed.length === 4)
  t.same(agent.pushed, ['demo=demo.localhost,more=more.localhost', 'demo=demo.localhost,more=more.localhost+most.localhost', 'more=more.localhost+most.localhost', ''])
  rig.directory.setAgent('a', { ...entry, services: [] })
  rig.directory.setAgent('a', entry)
  await until('what is no news is not said', () => agent.pushed.length === 5)
  t.equal(agent.pushed.at(-1), 'demo=demo.localhost')
  t.equal(agent.ended, '')
})

t.test('the same instance logging in again replaces its session, and no visitor notices', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const instance = randomBytes(16)
  const first = await rig.agent('a', () => events(), ['demo'], instance)
  const get = rig.ask('demo')
  const post = rig.ask('demo', { method: 'POST' })
  await rig.agent('a', answers(200, 'second'), ['demo'], instance)
  await until('the first knows', () => first.ended !== '')
  t.equal(first.ended, 'replaced')
  t.equal(await get.done(), 'head 200, end')
  t.equal(await post.done(), 'fail agent_lost')
  t.same(rig.presence, ['demo up'])
  t.same(rig.notes, ['began a', 'began a', 'ended a replaced'])
})

t.test('another instance is a second session, up to a bound', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const instance = randomBytes(16)
  await rig.agent('a', answers(200, ''), ['demo'], instance)
  for (let i = 1; i < 64; i++) await rig.login('a')
  t.equal([...rig.registry.members()].length, 64)
  const { outcome } = await rig.login('a')
  t.equal('code' in outcome && outcome.code.name, 'gateway_busy')
  t.ok((await rig.login('a', { instance })).outcome instanceof Session, 'who is in may come again')
  rig.registry.end(errors.gateway_leaving, 'over')
  t.equal([...rig.registry.members()].length, 0)
})

t.test('a session is told of to the end', async (t) => {
  const rig = await Rig.start(t, { times: { graceMs: 20 } })
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', answers(200, ''))
  await agent.cut()
  await until('the grace is over', () => rig.notes.length === 3)
  t.same(rig.notes, ['began a', 'detached a', 'ended a agent_lost'])
})

t.test('an agent with more services than a welcome holds comes in and hears of them on the control stream', async (t) => {
  const rig = await Rig.start(t)
  const services = Array.from({ length: 2_000 }, (_none, i) => `service-${String(i)}`)
  rig.allow('a', services)
  const agent = await rig.agent('a', answers(200, ''), services)
  t.same(agent.session.terms.services, [])
  await until('it is told', () => agent.pushed.length === 1)
  t.equal(agent.pushed[0]!.split(',').length, services.length)
  t.equal(await rig.ask('service-1999').done(), 'head 200, end')
})

t.test('what a welcome holds is counted in bytes', async (t) => {
  const rig = await Rig.start(t)
  rig.directory.setService('wide', ['ü'.repeat(20_000)])
  rig.allow('a', ['wide'])
  const agent = await rig.agent('a', answers(200, ''), ['wide'])
  t.same(agent.session.terms.services, [])
  t.equal(await rig.ask('wide').done(), 'head 200, end')
})

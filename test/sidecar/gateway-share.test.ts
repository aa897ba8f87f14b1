// Several agents of one service: weights, visitors that stay with one, and those whose origins are not well, who get nothing and come back by themselves.
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import type { Fields } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { type Agent, answers, events, type Origin, Rig } from './gateway-rig.ts'

/** Holds every exchange. */
const holds: Origin = () => events()

const HOSTS = ['demo.localhost']

async function start(t: Parameters<typeof Rig.start>[0], ids: readonly string[], origin: (id: string) => Origin = (id) => answers(200, id)) {
  const rig = await Rig.start(t)
  const agents = new Map<string, Agent>()
  for (const id of ids) {
    rig.allow(id, ['demo'])
    agents.set(id, await rig.agent(id, origin(id)))
  }
  /** Whom the exchange went to. */
  const goes = async (fields: Fields = []): Promise<{ agent: string; fields: Fields }> => {
    const asked = rig.ask('demo', { fields })
    await asked.done()
    return { agent: asked.body.toString(), fields: asked.fields }
  }
  const unwell = async (id: string, services: readonly string[]): Promise<void> => {
    agents.get(id)!.serve(['demo'], services)
    await until('the gateway heard', () => [...rig.registry.members()].some((member) => member.agentId === id && member.unhealthy.size === services.length))
  }
  return { rig, agents, goes, unwell }
}

t.test('under load each agent has its weight’s share, and an idle service its turns', async (t) => {
  const { rig } = await start(t, ['a', 'b', 'c'], () => holds)
  rig.directory.setService('demo', HOSTS, { weights: { a: 3, b: 2 } })
  const asked = Array.from({ length: 60 }, () => rig.ask('demo'))
  await until('all are at agents', () => asked.every(({ exchange }) => exchange.agent !== ''))
  const shares = (list: readonly { exchange: { agent: string } }[]): Record<string, number> => {
    return Object.fromEntries(['a', 'b', 'c'].map((id) => [id, list.filter(({ exchange }) => exchange.agent === id).length]))
  }
  t.same(shares(asked), { a: 30, b: 20, c: 10 })
})

t.test('one after the other, weights are kept too', async (t) => {
  const { rig, goes } = await start(t, ['a', 'b'])
  rig.directory.setService('demo', HOSTS, { weights: { a: 3 } })
  const went: string[] = []
  for (let i = 0; i < 40; i++) went.push((await goes()).agent)
  t.equal(went.filter((id) => id === 'a').length, 30)
})

t.test('a visitor stays with an agent by a cookie that names nobody, and the origin never sees it', async (t) => {
  const seen: Fields[] = []
  const { rig, goes } = await start(t, ['first-agent', 'second-agent'], (id) => (opening, stream) => {
    seen.push(opening.fields.slice(8))
    return answers(200, id)(opening, stream)
  })
  rig.directory.setService('demo', HOSTS, { sticky: true })
  const first = await goes()
  const [name, set] = first.fields.slice(-2)
  t.equal(name, 'Set-Cookie')
  t.match(set, /^postern_[A-Za-z0-9_-]{12}=[A-Za-z0-9_-]{24}; Path=\/; HttpOnly; SameSite=Lax$/)
  for (const word of ['first', 'second', 'demo']) t.notMatch(set, word)
  const cookie = set!.split(';')[0]!
  for (let i = 0; i < 10; i++) {
    const again = await goes(['Cookie', `a=b; ${cookie}; c=d`])
    t.equal(again.agent, first.agent)
    t.same(again.fields, [':status', '200'], 'it is not set again')
  }
  t.same(seen.at(-1), ['Cookie', 'a=b; c=d'])
  await goes(['cookie', cookie])
  t.same(seen.at(-1), [], 'a field that held nothing else is gone')
  for (const wrong of [`${cookie}x`, cookie.replace(/=.*/, '='), `${cookie.split('=')[0]!}=${'A'.repeat(24)}`]) {
    t.match((await goes(['Cookie', wrong])).fields.slice(-2)[0], 'Set-Cookie', wrong)
  }
  const others = new Set<string>()
  for (let i = 0; i < 8; i++) others.add((await goes()).agent)
  t.equal(others.size, 2, 'new visitors go to both')
})

t.test('the cookie outlives the agent’s process and the gateway’s, and gives way where its agent is gone', async (t) => {
  const { rig, agents, goes } = await start(t, ['a', 'b'])
  rig.directory.setService('demo', HOSTS, { sticky: true })
  const first = await goes()
  const cookie = first.fields.at(-1)!.split(';')[0]!
  const other = first.agent === 'a' ? 'b' : 'a'
  agents.get(first.agent)!.session.drain()
  await until('it left', () => [...rig.registry.members()].filter(({ serving }) => serving.length > 0).length === 1)
  const moved = await goes(['Cookie', cookie])
  t.equal(moved.agent, other)
  t.match(moved.fields.at(-1), 'postern_', 'and the visitor stays there from now on')
  await rig.agent(first.agent, answers(200, `${first.agent} anew`), ['demo'], randomBytes(16))
  for (let i = 0; i < 4; i++) t.equal((await goes(['Cookie', cookie])).agent, `${first.agent} anew`, 'the same agent in another process')
})

t.test('an agent whose origin is not well leaves the pick and comes back', async (t) => {
  const { rig, goes, unwell } = await start(t, ['a', 'b'])
  await unwell('a', ['demo'])
  for (let i = 0; i < 6; i++) t.equal((await goes()).agent, 'b')
  await unwell('b', ['demo'])
  t.same(rig.presence, ['demo up', 'demo unhealthy'])
  t.equal(await rig.ask('demo').done(), 'fail origin_unhealthy')
  await unwell('a', [])
  t.equal((await goes()).agent, 'a')
  t.same(rig.presence, ['demo up', 'demo unhealthy', 'demo up'])
})

t.test('nobody waits for an agent that is resuming with an origin that is not well', async (t) => {
  const { rig, agents, unwell } = await start(t, ['a'])
  await unwell('a', ['demo'])
  await agents.get('a')!.cut()
  const asked = rig.ask('demo')
  t.equal(asked.failure, errors.origin_unhealthy, 'at once')
})

t.test('health is asked of each service by itself, and is gone with the session', async (t) => {
  const { rig, agents, goes, unwell } = await start(t, ['a', 'b'])
  await unwell('a', ['other'])
  const went = new Set<string>()
  for (let i = 0; i < 6; i++) went.add((await goes()).agent)
  t.equal(went.size, 2)
  await unwell('a', ['demo'])
  agents.get('b')!.session.end(errors.draining, 'gone')
  await until('only the one that is not well is left', () => rig.presence.at(-1) === 'demo unhealthy')
  agents.get('a')!.session.end(errors.draining, 'gone')
  await until('nobody is left', () => rig.presence.at(-1) === 'demo away')
})

t.test('an agent that says something else all the time is heard now and then, and its last word counts', async (t) => {
  const { rig, agents } = await start(t, ['a'])
  const agent = agents.get('a')!
  for (let i = 0; i < 2_000; i++) agent.serve(['demo'], i % 2 === 0 ? ['demo'] : [])
  agent.serve(['demo'], ['demo', 'last'])
  await until('its last word is known', () => [...rig.registry.members()].some(({ unhealthy }) => unhealthy.has('last')))
  t.equal(rig.presence.at(-1), 'demo unhealthy')
  t.ok(rig.presence.length < 50, String(rig.presence.length))
})

t.test('a visitor who stays with an agent goes elsewhere while its origin is not well', async (t) => {
  const { rig, goes, unwell } = await start(t, ['a', 'b'])
  rig.directory.setService('demo', HOSTS, { sticky: true })
  const first = await goes()
  const cookie = first.fields.at(-1)!.split(';')[0]!
  await unwell(first.agent, ['demo'])
  t.not((await goes(['Cookie', cookie])).agent, first.agent)
  await unwell(first.agent, [])
  t.equal((await goes(['Cookie', cookie])).agent, first.agent)
})

// A session that no longer agrees with what is set is replaced by another login beside it: nothing under way is lost, and where that fails the old one serves on.
import t, { type Test } from 'tap'
import { Agent } from '../../agent/agent.ts'
import { type Candidate, listCandidates } from '../../agent/candidates.ts'
import { processEnvironment } from '../../agent/environment.ts'
import type { AgentEvent } from '../../agent/events.ts'
import { Renewal } from '../../agent/renewal.ts'
import { parseTarget } from '../../agent/target.ts'
import { encodeControl, type PushedSettings } from '../../protocol/control.ts'
import { decodeJoin } from '../../protocol/join.ts'
import type { Session } from '../../protocol/session.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { type Gate, startGate } from './gate.ts'

async function start(t: Test) {
  const gate = await startGate(t)
  gate.services = [{ name: 'demo', hosts: [], health: { kind: 'http', path: '/health', interval_ms: 100, unhealthy_after: 1 } }]
  const held: (() => void)[] = []
  const origins = { areWell: true }
  const origin = await startOrigin(t, (request, response) => {
    if (request.url === '/held') held.push(() => response.end('held'))
    else if (request.url === '/health') response.writeHead(origins.areWell ? 200 : 500).end()
    else response.end('ok')
  })
  const events: AgentEvent[] = []
  // Nobody waits for the turn that a random number gives.
  const environment = { ...processEnvironment(), random: (bytes: number) => (bytes === 4 ? Buffer.alloc(4) : processEnvironment().random(bytes)) }
  const agent = new Agent({
    join: decodeJoin(gate.join), services: { every: { target: parseTarget(origin.url, process.platform) } }, environment, userAgent: 'test', onEvent: (event) => events.push(event),
  })
  t.teardown(() => agent.close())
  await agent.start()
  await until('it serves', () => gate.says.length === 1)
  const set = (settings: PushedSettings): void => void gate.controlStream!.write(encodeControl({ settings }))
  const names = (): string[] => events.map(({ event }) => event)
  return { gate, agent, set, names, held, origins }
}

t.test('the new one serves, then the old one stops, and ends when what is under way on it is over', async (t) => {
  const { gate, agent, set, names, held } = await start(t)
  const visit = gate.visit('demo', '/held')
  await until('it is at the origin', () => held.length === 1)
  set({ connections: 3 })
  await until('another session', () => gate.sessions.length === 2)
  const [before, after] = gate.sessions
  await until('the old one says that it serves nothing, the new one that it does', () => gate.says.some(({ serves }) => serves.length === 0) && gate.says.length === 3)
  t.same(gate.says.map(({ serves }) => serves), [['demo'], ['demo'], []])
  t.equal((await gate.answered(gate.visit())).status, '200')
  await until('the old one takes no more', () => gate.peerDrains.includes(before!))
  t.notOk(before!.ended)
  held[0]!()
  t.equal((await gate.answered(visit)).status, '200')
  await until('it ends', () => before!.ended)
  t.notOk(after!.ended)
  t.match(agent.now, { state: 'serving', session: after!.id })
  t.notOk(names().includes('lost'))
  set({ connections: 3 })
  set({})
  await until('and once more, for it is one again', () => gate.sessions.length === 3)
  t.equal(gate.sessions.length, 3, 'what says the same changes nothing')
})

/** Something is set for which another login begins, and comes to nothing. The session that is there. */
async function renewsInVain(gate: Gate, set: (settings: PushedSettings) => void): Promise<Session> {
  const before = gate.sessions[0]!
  gate.breaks = true
  set({ connections: 2 })
  await until('it was tried', () => gate.sessions.length >= 2)
  return before
}

t.test('where the other login comes to nothing the old session serves on', async (t) => {
  const { gate, agent, set, names } = await start(t)
  const before = await renewsInVain(gate, set)
  await until('the agent knows', () => agent.now.session === before.id)
  gate.breaks = false
  await until('and again', () => gate.sessions.some((session) => session !== before && !session.ended))
  t.notOk(names().includes('lost'))
  await until('that one serves', () => agent.now.session !== before.id)
})

t.test('a session that serves on says how its origins are', async (t) => {
  const { gate, agent, set, origins } = await start(t)
  const before = await renewsInVain(gate, set)
  set({})
  await until('nothing is to be renewed any more', () => agent.now.settings.some(({ name, value }) => name === 'connections' && value === '1') && gate.sessions.every((session) => session === before || session.ended))
  await until('the agent knows', () => agent.now.session === before.id)
  origins.areWell = false
  await until('its gateway hears of it', () => gate.says.at(-1)!.unhealthy.length === 1)
})

t.test('what a session that it leaves still says of settings changes nothing any more', async (t) => {
  const { gate, agent, set, held } = await start(t)
  const [before] = gate.sessions
  const older = gate.controlStream!
  gate.visit('demo', '/held')
  await until('it is at the origin', () => held.length === 1)
  set({ connections: 2 })
  await until('it leaves the old one', () => gate.says.some(({ serves }) => serves.length === 0))
  older.write(encodeControl({ settings: { connections: 3 } }))
  await until('the agent has heard it', () => before!.allArrived)
  t.match(agent.now.settings.find(({ name }) => name === 'connections'), { value: '2', source: 'gateway' })
  held[0]!()
})

t.test('so many renewals, and then a minute has to pass', (t) => {
  const waits: { readonly ms: number; readonly go: () => void }[] = []
  const own = processEnvironment()
  const clock = { ...own.clock, now: () => 0, later: (ms: number, go: () => void) => {
    waits.push({ ms, go })
    return () => undefined
  } }
  const fails: Candidate = { ...listCandidates({ gateway: 'http://127.0.0.1:1' }, {})[0]!, dial: (_options, done) => {
    done({ reason: 'unreachable', detail: 'nobody is there' })
    return () => undefined
  } }
  let begun = 0
  const renewal = new Renewal({
    racer: { environment: { ...own, clock }, userAgent: 'test' },
    wish: () => {
      begun++
      return { entrant: { join: { url: 'http://127.0.0.1:1', id: 'a', secret: 's', key: 'k' }, policy: undefined, lanes: 1 }, candidates: [fails] }
    },
    onSession: () => undefined,
  })
  for (; begun < 10; renewal.stop()) {
    renewal.begin()
    t.ok(waits.at(-1)!.ms <= 500)
    waits.at(-1)!.go()
  }
  renewal.begin()
  t.equal(waits.at(-1)!.ms, 60_000)
  t.end()
})

t.test('an agent that leaves meanwhile leaves with all of its sessions', async (t) => {
  const { gate, agent, set } = await start(t)
  set({ connections: 2 })
  await until('another session serves', () => agent.now.session === gate.sessions[1]?.id)
  await agent.drain()
  await until('both are over', () => gate.sessions.every(({ ended }) => ended))
  t.equal(agent.now.state, 'closed')
})

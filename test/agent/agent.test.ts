// The agent logs in, serves what it may, and comes back to the same session when its channel breaks.
import t from 'tap'
import { Agent } from '../../agent/agent.ts'
import { TAKEN_WAIT_MS } from '../../agent/control.ts'
import { processEnvironment } from '../../agent/environment.ts'
import type { AgentEvent } from '../../agent/events.ts'
import type { Services } from '../../agent/offering.ts'
import { parseTarget } from '../../agent/target.ts'
import { errors } from '../../protocol/errors.ts'
import { decodeJoin, encodeJoin } from '../../protocol/join.ts'
import type { Policy } from '../../protocol/messages.ts'
import { type Ends, startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { startGate } from './gate.ts'

class Watched {
  readonly events: AgentEvent[] = []
  readonly agent: Agent

  constructor(t: Ends, join: string, services: Services, policy?: Policy) {
    this.agent = new Agent({ join: decodeJoin(join), services, policy, environment: processEnvironment(), userAgent: 'test', onEvent: (event) => this.events.push(event) })
    t.teardown(() => this.agent.close())
  }

  count(name: AgentEvent['event']): number {
    return this.events.filter(({ event }) => event === name).length
  }

  async saw(name: AgentEvent['event'], times = 1): Promise<AgentEvent> {
    await until(`${name}, ${String(times)} times`, () => this.count(name) >= times, { logs: () => this.events.map((event) => JSON.stringify(event)).join('\n') })
    return this.events.findLast(({ event }) => event === name)!
  }
}

const every = (port: number): Services => ({ every: { target: parseTarget(`127.0.0.1:${String(port)}`, 'linux') } })

t.test('an agent logs in, says what it serves, and carries an exchange', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const watched = new Watched(t, gate.join, every(origin.port))
  await watched.agent.start()
  t.match(await watched.saw('serving'), { channel: 'websocket', services: [{ name: 'demo', hosts: ['demo.example'], target: origin.url }] })
  await until('the gateway heard', () => gate.serves.length > 0)
  t.same(gate.serves, [['demo']])
  const visit = await gate.answered(gate.visit('demo', '/x'))
  t.equal(visit.status, '200')
  t.equal(visit.text, 'GET /x\n')
})

t.test('a service without a target, and a stream that is no exchange, lead nowhere', async (t) => {
  const gate = await startGate(t)
  gate.services = [{ name: 'demo', hosts: [] }, { name: 'other', hosts: [] }]
  const origin = await startOrigin(t)
  const watched = new Watched(t, gate.join, { each: new Map([['demo', { target: parseTarget(String(origin.port), 'linux') }], ['mine', { target: parseTarget('1', 'linux') }]]) })
  await watched.agent.start()
  t.match(await watched.saw('not_allowed'), { services: ['mine'] })
  await until('the gateway heard', () => gate.serves.length > 0)
  t.same(gate.serves, [['demo']])
  for (const service of ['other', 'mine', '', '../demo', '__proto__']) t.equal((await gate.answered(gate.visit(service))).failure, 'not_served', service)
  t.equal(origin.requests(), 0)
})

t.test('what the gateway lets it serve changes while it runs', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const watched = new Watched(t, gate.join, every(origin.port))
  await watched.agent.start()
  await until('the gateway heard', () => gate.serves.length > 0)
  gate.say([{ name: 'demo', hosts: [] }, { name: 'shop', hosts: ['shop.example'] }])
  await until('the gateway heard again', () => gate.serves.length > 1)
  t.same(gate.serves[1], ['demo', 'shop'])
  t.equal((await gate.answered(gate.visit('shop'))).status, '200')
  gate.say([{ name: 'shop', hosts: [] }])
  await until('and again', () => gate.serves.length > 2)
  t.equal((await gate.answered(gate.visit('demo'))).failure, 'not_served')
})

t.test('a cut channel is replaced under the same session, and an exchange under way goes on', async (t) => {
  const gate = await startGate(t)
  let finish: (() => void) | undefined
  const origin = await startOrigin(t, (_request, response) => {
    response.write('first ')
    finish = () => response.end('last')
  })
  const watched = new Watched(t, gate.join, every(origin.port))
  await watched.agent.start()
  await watched.saw('serving')
  const visit = gate.visit()
  await until('the answer has begun', () => visit.text === 'first ')
  for (let i = 1; i <= 3; i++) {
    gate.cut()
    await watched.saw('lost', i)
    await watched.saw('resumed', i)
  }
  finish!()
  await gate.answered(visit)
  t.equal(visit.text, 'first last')
  t.equal(gate.sessions.length, 1)
})

t.test('a gateway that does not know the session gets a new one', async (t) => {
  const first = await startGate(t)
  const origin = await startOrigin(t)
  const watched = new Watched(t, first.join, every(origin.port))
  await watched.agent.start()
  await watched.saw('serving')
  first.forgets = true
  first.cut()
  await watched.saw('serving', 2)
  t.equal(first.sessions.length, 2)
  t.equal((await first.answered(first.visit())).status, '200')
})

t.test('asked to move, it opens another channel and leaves the first', async (t) => {
  const gate = await startGate(t)
  const watched = new Watched(t, gate.join, every((await startOrigin(t)).port))
  await watched.agent.start()
  await watched.saw('serving')
  const [session] = gate.sessions
  const [old] = session!.carriers
  session!.askToMove(old!, errors.draining)
  t.match(await watched.saw('moved'), { from: 'websocket directly', to: 'websocket directly', why: /the gateway asked/ })
  await until('only the new one is left', () => session!.carriers.length === 1 && session!.carriers[0] !== old)
  t.equal((await gate.answered(gate.visit())).status, '200')
  t.equal(watched.count('lost'), 0)
})

t.test('a wrong secret and a wrong gateway key end it, refused', async (t) => {
  const gate = await startGate(t)
  const other = await startGate(t)
  const join = decodeJoin(gate.join)
  for (const change of [{ secret: 'x' }, { id: 'nobody' }, { key: decodeJoin(other.join).key }]) {
    const watched = new Watched(t, encodeJoin({ ...join, ...change }), every(1))
    await watched.agent.start()
    t.match(await watched.saw('refused'), { code: 'unauthenticated' })
    await watched.saw('closed')
    t.equal(watched.count('failed'), 0)
  }
  t.equal(gate.sessions.length, 0)
})

t.test('an agent that was let in before takes two refusals for what somebody on the way has done, not three, and they count from the start again', async (t) => {
  const gate = await startGate(t)
  const watched = new Watched(t, gate.join, every((await startOrigin(t)).port))
  await watched.agent.start()
  await watched.saw('serving')
  gate.forgets = true
  for (const round of [1, 2]) {
    gate.changedOnTheWay = 2
    gate.cut()
    await watched.saw('serving', 1 + round)
    t.equal(watched.count('failed'), 2 * round)
    t.match(await watched.saw('failed'), { reason: 'login' })
  }
  t.equal((await gate.answered(gate.visit())).status, '200')
  gate.changedOnTheWay = 3
  gate.cut()
  t.match(await watched.saw('refused'), { code: 'unauthenticated' })
  await watched.saw('closed')
  t.equal(watched.count('failed'), 6)
})

t.test('a refusal that ends a session is asked after at a login: it may be anybody’s on the way, and if it is the gateway’s it is what is told', async (t) => {
  const gate = await startGate(t)
  const watched = new Watched(t, gate.join, every((await startOrigin(t)).port))
  await watched.agent.start()
  await watched.saw('serving')
  for (const round of [1, 2, 3]) {
    gate.sessions.at(-1)!.end(errors.revoked, 'says somebody')
    await watched.saw('serving', 1 + round)
  }
  t.equal((await gate.answered(gate.visit())).status, '200')
  t.equal(watched.count('failed'), 0)
  gate.changedOnTheWay = 1_000
  gate.sessions.at(-1)!.end(errors.revoked, 'says the gateway')
  t.match(await watched.saw('refused'), { code: 'revoked', detail: /says the gateway/ })
  await watched.saw('closed')
  t.equal(watched.count('failed'), 1)
})

t.test('payload goes unsealed only if both ends say so', async (t) => {
  const origin = await startOrigin(t)
  for (const [gateway, agent, outcome] of [['never', undefined, 'policy_mismatch'], ['never', 'always', 'policy_mismatch'], ['never', 'never', 'never'], ['always', 'never', 'always']] as const) {
    const gate = await startGate(t, { policy: gateway })
    const watched = new Watched(t, gate.join, every(origin.port), agent)
    await watched.agent.start()
    if (outcome === 'policy_mismatch') t.match(await watched.saw('refused'), { code: outcome })
    else {
      await watched.saw('serving')
      t.equal(gate.sessions[0]!.policy, outcome)
      t.equal((await gate.answered(gate.visit())).text, 'GET /\n')
    }
  }
})

t.test('while nobody is there it tries again and again', async (t) => {
  const gate = await startGate(t)
  await gate.stop()
  const watched = new Watched(t, gate.join, every(1))
  await watched.agent.start()
  t.match(await watched.saw('failed', 2), { reason: 'unreachable', detail: /ECONNREFUSED/ })
})

t.test('what is no gateway is named as such', async (t) => {
  const replies: readonly (readonly [number, string, RegExp])[] = [[404, 'http', /HTTP 404/], [302, 'http', /redirects are not followed/], [502, 'unreachable', /away/], [200, 'http', /HTTP 200/]]
  for (const [status, reason, detail] of replies) {
    const origin = await startOrigin(t)
    origin.server.on('upgrade', (_request, socket) => socket.end(`HTTP/1.1 ${String(status)} x\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n`))
    const watched = new Watched(t, encodeJoin({ url: origin.url, id: 'a', secret: 's', key: 'k' }), every(1))
    await watched.agent.start()
    t.match(await watched.saw('failed'), { reason, detail })
    await watched.agent.close()
  }
})

t.test('draining lets what is under way finish and takes nothing new', async (t) => {
  const gate = await startGate(t)
  let finish: (() => void) | undefined
  const origin = await startOrigin(t, (_request, response) => {
    response.write('first ')
    finish = () => response.end('last')
  })
  const watched = new Watched(t, gate.join, every(origin.port))
  await watched.agent.start()
  await watched.saw('serving')
  const visit = gate.visit()
  await until('the answer has begun', () => visit.text === 'first ')
  const drained = watched.agent.drain()
  await until('the gateway knows', () => gate.peerDrains.length === 1)
  t.throws(() => gate.visit(), /takes no stream/)
  finish!()
  await drained
  await gate.answered(visit)
  t.equal(visit.text, 'first last')
  await until('the session is over', () => gate.sessions[0]!.ended)
})

t.test('it says that it serves once the gateway has taken that, and does not wait for ever for a gateway that never says so', async (t) => {
  const gate = await startGate(t)
  gate.saysNothingOfIt = true
  const watched = new Watched(t, gate.join, every(1))
  await watched.agent.start()
  await until('the gateway heard', () => gate.says.length === 1)
  gate.say([{ name: 'demo', hosts: ['demo.example'] }, { name: 'shop', hosts: [] }])
  await until('and again', () => gate.says.length === 2)
  gate.take(1)
  gate.say([{ name: 'demo', hosts: [] }])
  await until('what came in between was heard', () => gate.says.length === 3)
  t.equal(watched.count('serving'), 0, 'an older word is not the last one')
  gate.take(3)
  t.match(await watched.saw('serving'), { services: [{ name: 'demo', hosts: [] }] })
  gate.say([{ name: 'demo', hosts: [] }, { name: 'shop', hosts: [] }])
  t.match(await watched.saw('serving', 2), { services: [{ name: 'demo' }, { name: 'shop' }] })
})

t.test('draining takes what the gateway sent before it heard of that, however long it is under way', async (t) => {
  const gate = await startGate(t)
  const watched = new Watched(t, gate.join, every((await startOrigin(t)).port))
  await watched.agent.start()
  await watched.saw('serving')
  gate.saysNothingOfIt = true
  const drained = watched.agent.drain()
  await until('the gateway heard', () => gate.serves.length === 2)
  t.same(gate.serves[1], [])
  gate.take(2, 2)
  for (let i = 1; i <= 2; i++) t.equal((await gate.answered(gate.visit())).status, '200', String(i))
  await drained
  t.equal(gate.peerDrains.length, 1)
})

t.test('with nothing under way it leaves at once, and within seconds where nobody hears it', async (t) => {
  const gate = await startGate(t)
  const [heard, cut] = [new Watched(t, gate.join, every(1)), new Watched(t, gate.join, every(1))]
  for (const { agent } of [heard, cut]) await agent.start()
  await heard.saw('serving')
  await cut.saw('serving')
  const began = performance.now()
  await heard.agent.drain()
  const atOnceMs = performance.now() - began
  t.ok(atOnceMs < TAKEN_WAIT_MS, `${String(Math.round(atOnceMs))} ms`)
  await gate.stop()
  await cut.agent.drain()
  t.equal(cut.agent.now.state, 'closed')
})

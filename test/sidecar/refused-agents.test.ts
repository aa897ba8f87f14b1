// Who was refused as an agent is in the history, with why for the operator alone; a flood of refusals leaves a few entries a minute, with counts.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { REFUSED_MAX_COUNT, RefusedAgents } from '../../sidecar/refused-agents.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { until } from '../harness/until.ts'
import { SimulatedClock } from '../protocol/simulation.ts'
import { ask } from './control-socket.ts'

interface Told {
  readonly kind: string
  readonly subject: string
  readonly who: string
  readonly detail: Readonly<Record<string, unknown>>
}

function world(): { refused: RefusedAgents; told: Told[]; minute: () => void } {
  const clock = new SimulatedClock()
  const told: Told[] = []
  const refused = new RefusedAgents(clock, { happened: (kind, subject, who, detail) => void told.push({ kind, subject, who, detail: { ...detail } }) })
  const minute = (): void => {
    let over = false
    clock.later(60_000, () => (over = true))
    clock.run(() => over)
  }
  return { refused, told, minute }
}

t.test('a source that tries an agent again and again is told at once, and then once a minute with a count', (t) => {
  const { refused, told, minute } = world()
  for (let i = 0; i < 500; i++) refused.refused('192.0.2.1', 'web-1', errors.unauthenticated)
  t.same(told, [{ kind: 'agent_refused', subject: 'agents/web-1', who: '192.0.2.1', detail: { code: 'unauthenticated', count: 1 } }])
  minute()
  t.match(told.slice(1), [{ detail: { count: 499 } }])
  for (let i = 0; i < 3; i++) refused.refused('192.0.2.1', 'web-1', errors.gateway_busy)
  t.equal(told.length, 2)
  minute()
  t.match(told.slice(2), [{ detail: { code: 'gateway_busy', count: 3 } }])
  minute()
  t.equal(told.length, 3, 'a minute without any is not told')
  refused.refused('192.0.2.1', 'web-1', errors.unauthenticated)
  t.match(told.slice(3), [{ detail: { count: 1 } }], 'and the next is told at once again')
  t.end()
})

t.test('whoever tries every name from everywhere gets a few entries, and a count for all the rest', (t) => {
  const { refused, told, minute } = world()
  for (let i = 0; i < 10_000; i++) refused.refused(`192.0.2.${String(i % 250)}`, `agent-${String(i)}`, errors.unauthenticated)
  t.equal(told.length, REFUSED_MAX_COUNT)
  minute()
  t.equal(told.length, REFUSED_MAX_COUNT + 1)
  t.same(told.at(-1), { kind: 'agents_refused', subject: 'agents', who: 'others', detail: { count: 10_000 - REFUSED_MAX_COUNT } })
  minute()
  refused.refused('192.0.2.9', 'web-1', errors.unauthenticated)
  t.match(told.at(-1), { subject: 'agents/web-1' }, 'a minute later there is room again')
  t.end()
})

t.test('what is no agent’s id is not repeated', (t) => {
  const { refused, told } = world()
  for (const id of ['', '\u001b[2J', 'a/../b', '<b>', 'x y']) refused.refused('192.0.2.1', id, errors.unauthenticated)
  t.match(told, [{ subject: 'agents' }])
  t.equal(told.length, 1)
  t.end()
})

t.test('the operator reads why an agent was refused, and every such agent is told the same', async (t) => {
  const gateway = await startGateway(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const to = (method: string, path: string, body?: object, headers?: Record<string, string>) => ask(gateway.runDir, method, path, body, headers)
  const made = async (id: string): Promise<string> => String((await to('POST', '/v1/agents', { id, url: nginx.url })).json.join)
  const joins = { wrong: await made('wrong'), revoked: await made('revoked'), disabled: await made('disabled'), expired: await made('expired'), unknown: await made('unknown') }
  await to('POST', '/v1/agents/wrong/rotate', { url: nginx.url })
  await to('POST', '/v1/agents/revoked/revoke', {})
  await to('PATCH', '/v1/agents/disabled', { disabled: true }, { 'if-match': '*' })
  await to('PATCH', '/v1/agents/expired', { expires_at: '2000-01-01T00:00:00Z' }, { 'if-match': '*' })
  await to('DELETE', '/v1/agents/unknown')
  const heard = new Set<string>()
  for (const [id, join] of Object.entries(joins)) {
    const agent = await runAgent(t, ['http', '1'], { join, ready: false })
    t.equal(await agent.exited, 3)
    heard.add(agent.logs().replaceAll(id, 'ID').replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME'))
    const entry = await until('it is written', async () => ((await to('GET', `/v1/history?subject=agents/${id}&kind=agent_refused`)).json.items as Told[])[0])
    t.match(entry, { who: '127.0.0.1', detail: { code: 'unauthenticated', count: 1, state: id === 'wrong' ? 'active' : id } })
  }
  t.equal(heard.size, 1, [...heard].join('\n'))
})

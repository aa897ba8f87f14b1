// An agent that may serve more services than it can be told of serves the first of them, and the operator hears of the others: it is not kept out.
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { until } from '../harness/until.ts'
import { ask } from '../sidecar/control-socket.ts'

const COUNT = 150
/** Some four kilobytes of them. */
const HOSTS_COUNT = 20

interface Shown {
  readonly id: string
  readonly services: readonly string[]
  readonly refused: readonly { readonly what: string; readonly reason: string }[]
}

t.test('services beyond what a message holds', async (t) => {
  const port = await freePort()
  const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(port)}` } })
  const name = (i: number): string => `service-${String(i).padStart(3, '0')}`
  const hosts = (i: number): string[] => Array.from({ length: HOSTS_COUNT }, (_v, n) => `${name(i)}.${`${'long'.repeat(14)}.`.repeat(3)}n${String(n)}.test`)
  const services = Object.fromEntries(Array.from({ length: COUNT }, (_v, i) => [name(i), { hosts: hosts(i) }]))
  const agents = { all: { services: Object.keys(services), url: `tcp://127.0.0.1:${String(port)}` } }
  const { json } = await ask(gateway.runDir, 'POST', '/v1/apply', { services, agents })
  const join = (json.changes as { join?: string }[]).find((change) => change.join !== undefined)!.join!
  const agent = await runAgent(t, ['http', '3000'], { join })
  const session = async (): Promise<Shown | undefined> => ((await ask(gateway.runDir, 'GET', '/v1/sessions')).json.items as Shown[])[0]
  await until('it serves', async () => ((await session())?.services.length ?? 0) > 0, { logs: agent.logs })
  const shown = (await session())!
  t.ok(shown.services.length > COUNT / 2 && shown.services.length < COUNT, String(shown.services.length))
  t.equal(shown.services[0], name(0))
  t.same(shown.refused, [{ what: 'services', reason: `it may serve ${String(COUNT - shown.services.length)} more than an agent can be told of` }])
  await ask(gateway.runDir, 'PATCH', '/v1/agents/all', { services: [name(COUNT - 1)] }, { 'if-match': '*' })
  await until('it serves what it could not be told of', async () => (await session())?.services[0] === name(COUNT - 1))
  const after = (await session())!
  t.same([after.id, after.refused], [shown.id, []])
  t.notOk(agent.events.some(({ event }) => event === 'lost'))
})

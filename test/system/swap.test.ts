// One change of many services, with traffic running: places that they exchange are served at every moment, by the one or the other, and all is made or nothing.
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { ask } from '../sidecar/control-socket.ts'
import { visit } from './visitor.ts'

const SWAPS = 50
const HOSTS = ['x.test', 'y.test'] as const

t.test('two services exchange their hostnames again and again, and no request meets nobody', async (t) => {
  const gateway = await startGateway(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const services = (a: string, b: string): object => ({ a: { hosts: [a] }, b: { hosts: [b] } })
  const made = await ask(gateway.runDir, 'POST', '/v1/apply', { services: services('x.test', 'y.test'), agents: { a: { services: ['a'], url: nginx.url }, b: { services: ['b'], url: nginx.url } } })
  t.equal(made.status, 200)
  const changes = made.json.changes as { resource: string; join?: string }[]
  for (const { resource, join } of changes) {
    if (join === undefined) continue
    const name = resource.split('/')[1]!
    const origin = await startOrigin(t, (request, response) => {
      request.resume()
      response.end(name)
    })
    await startAgent(t, { join, target: origin.url })
  }
  const get = async (host: string): Promise<string> => {
    const { status, body } = await visit({ port: nginx.port, host })
    return `${String(status)} ${body.toString().slice(0, 20)}`
  }
  for (const host of HOSTS) await until(`${host} is served`, async () => (await get(host)).startsWith('200 '))
  const answers = new Map<string, number>()
  let over = false
  const visitors = HOSTS.flatMap((host) => [host, host]).map(async (host) => {
    while (!over) {
      const answer = await get(host)
      answers.set(answer, (answers.get(answer) ?? 0) + 1)
    }
  })
  for (let i = 1; i <= SWAPS; i++) {
    const [first, second] = i % 2 === 1 ? (['y.test', 'x.test'] as const) : HOSTS
    const told = await ask(gateway.runDir, 'POST', '/v1/apply', { services: services(first, second) })
    t.match(told, { status: 200, json: { changes: [{ action: 'changed', resource: 'services/a' }, { action: 'changed', resource: 'services/b' }] } })
    if (i % 10 === 0) t.same([await get(first), await get(second)], ['200 a', '200 b'], 'once it is answered it is so')
  }
  over = true
  await Promise.all(visitors)
  t.comment(JSON.stringify([...answers]))
  t.same([...answers.keys()].sort(), ['200 a', '200 b'])
  t.equal(((await ask(gateway.runDir, 'GET', '/v1/history?subject=services/a&kind=service_changed')).json.items as object[]).length, SWAPS, 'and each has its entry in the history')

  const before = (await ask(gateway.runDir, 'GET', '/v1/services')).text
  const dry = await ask(gateway.runDir, 'POST', '/v1/apply?dry_run=true', { services: services('y.test', 'x.test') })
  t.match(dry.json, { changes: [{ resource: 'services/a', fields: [{ field: 'hosts', before: '["x.test"]', after: '["y.test"]' }] }, {}] })
  t.equal((await ask(gateway.runDir, 'GET', '/v1/services')).text, before, 'a rehearsal changes nothing')
  const refused = await ask(gateway.runDir, 'POST', '/v1/apply', { services: { ...services('y.test', 'y.test') } })
  t.match(refused, { status: 409, json: { code: 'taken', errors: [{ field: 'services.a.hosts' }] } })
  t.equal((await ask(gateway.runDir, 'GET', '/v1/services')).text, before, 'nor does what is refused')
  t.match(await ask(gateway.runDir, 'POST', '/v1/apply?dry_run=true', { services: services('y.test', 'y.test') }), { status: 409 }, 'which a rehearsal tells too')
})

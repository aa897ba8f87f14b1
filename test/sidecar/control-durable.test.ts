// What the control server acknowledged survives kill -9; a full disk refuses changes, is told once, keeps traffic going and is over when it is over.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { HOST, visit } from '../system/visitor.ts'
import { ask } from './control-socket.ts'
import { killed } from './killed.ts'
import { mountSmallDisk, noSmallDisk, type SmallDisk } from './small-disk.ts'

/** What nginx says of the agent’s channel when the gateway is killed, and of its next try. */
const KILLED = /connect\(\) to unix:.* failed|upstream prematurely closed|recv\(\) failed/

const count = (gateway: GatewayProcess, event: string): number => gateway.events.filter((one) => one.event === event).length

t.test('kill -9 while changes come in: each that was acknowledged is there, each that was not is whole or absent', async (t) => killed(t, 3))

async function serving(t: Parameters<typeof startNginx>[0], gateway: GatewayProcess): Promise<() => Promise<number>> {
  const origin = await startOrigin(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir, expected: [KILLED] })
  const join = await gateway.addAgent('live', 'live', HOST, nginx.url)
  await startAgent(t, { join, target: origin.url })
  const status = async (): Promise<number> => (await visit({ port: nginx.port })).status
  await until('it is served', async () => (await status()) === 200)
  return status
}

t.test('a full disk under the store', { skip: noSmallDisk }, async (t) => {
  let disk: SmallDisk | undefined
  const gateway = await startGateway(t, { prepare: (_runDir, stateDir) => void (disk = mountSmallDisk(t, stateDir, 1_024)) })
  const status = await serving(t, gateway)
  const soon = new Date(performance.timeOrigin + performance.now() + 3_000).toISOString()
  t.equal((await ask(gateway.runDir, 'POST', '/v1/agents', { id: 'short', url: 'http://e.test', expires_at: soon })).status, 201)
  disk!.fill()
  const put = (name: string) => ask(gateway.runDir, 'PUT', `/v1/services/${name}`, { hosts: [`${name}.test`] })
  const refused = await until('the log of the store is full too', async () => {
    const told = await put('x')
    return told.status === 201 ? undefined : told
  })
  t.match(refused, { status: 507, json: { code: 'store_unwritable', title: 'Insufficient Storage' } })
  const last = (await ask(gateway.runDir, 'GET', '/v1/services')).json
  for (let i = 0; i < 5; i++) {
    t.equal((await put('y')).status, 507)
    t.equal((await ask(gateway.runDir, 'POST', '/v1/agents', { id: 'y', services: [], url: 'http://e.test' })).status, 507)
    t.equal((await ask(gateway.runDir, 'DELETE', '/v1/agents/live')).status, 507)
  }
  t.same((await ask(gateway.runDir, 'GET', '/v1/services')).json, last, 'what was refused did not happen')
  t.notOk(existsSync(join(gateway.runDir, 'routes/y.test')))
  t.equal(await status(), 200, 'traffic goes on')
  await until('an agent’s time is over', async () => (await ask(gateway.runDir, 'GET', '/v1/agents/short')).json.state === 'expired')
  t.equal(count(gateway, 'store_not_written'), 1, 'it is said once')
  t.equal(count(gateway, 'store_written_again'), 0, 'and nothing else makes it look well')
  disk!.free()
  t.match(await put('z'), { status: 201 }, 'it recovers')
  await until('it is said', () => count(gateway, 'store_written_again') > 0)
  t.equal(count(gateway, 'store_written_again'), 1)
  await gateway.kill()
  await gateway.restart()
  t.match((await ask(gateway.runDir, 'GET', '/v1/services/z')).json, { hosts: ['z.test'] }, 'and is no broken store')
  t.match(await ask(gateway.runDir, 'GET', '/v1/services/y'), { status: 404 })
})

t.test('a full disk under the run directory', { skip: noSmallDisk }, async (t) => {
  let disk: SmallDisk | undefined
  const gateway = await startGateway(t, { prepare: (runDir) => void (disk = mountSmallDisk(t, runDir, 256)) })
  const status = await serving(t, gateway)
  const before = readFileSync(join(gateway.runDir, 'routes', HOST), 'utf8')
  disk!.fill()
  for (let i = 0; i < 5; i++) t.equal((await ask(gateway.runDir, 'PUT', `/v1/services/x${String(i)}`, { hosts: [`x${String(i)}.test`] })).status, 201, 'the store has it')
  t.notOk(existsSync(join(gateway.runDir, 'routes/x0.test')))
  t.match(await ask(gateway.runDir, 'GET', '/v1/ready'), { status: 503, json: { ready: false, waits_for: ['route table'] } })
  t.equal(await status(), 200, 'traffic goes on')
  t.equal(readFileSync(join(gateway.runDir, 'routes', HOST), 'utf8'), before, 'no file is half written')
  t.equal(count(gateway, 'routes_not_written'), 1, 'it is said once')
  disk!.free()
  await until('it recovers', async () => (await ask(gateway.runDir, 'GET', '/v1/ready')).status === 200)
  t.equal(readFileSync(join(gateway.runDir, 'routes/x4.test'), 'utf8'), '1 away h1 x4 -\n')
  await until('it is said', () => count(gateway, 'routes_written_again') > 0)
  t.equal(count(gateway, 'routes_written_again'), 1)
})

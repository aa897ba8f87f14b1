// Inherited sockets: a gateway that is restarted, or killed, keeps new requests waiting and fails none of them.
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { until } from '../harness/until.ts'
import { load, startHeldWorld } from './held-world.ts'
import { HOST, visit } from './visitor.ts'

/** Visitors' connections to nginx, by what the kernel knows. */
function connected(port: number): () => number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const established = '01'
  return () => readFileSync('/proc/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/)).filter((fields) => fields[1]?.endsWith(local) === true && fields[3] === established).length
}

t.test('a restart under load fails no new request', async (t) => {
  const { gateway, nginx, agent } = await startHeldWorld(t)
  t.match(gateway.events.find(({ event }) => event === 'ready'), { inherited_sockets: 4 })
  const visitors = load(nginx.port)
  for (let i = 0; i < 2; i++) {
    const before = visitors.served()
    await until('requests are served', () => visitors.served() > before + 100)
    t.equal(await gateway.end('SIGTERM'), '0', 'it leaves cleanly')
    t.match(readFileSync(join(gateway.runDir, 'routes', HOST), 'utf8'), /^1 up /, 'nginx goes on to ask for it')
    t.ok(statSync(join(gateway.runDir, 'ingress.sock')).isSocket(), 'the sockets stay')
    await gateway.start()
  }
  const before = visitors.served()
  await until('requests are served again', () => visitors.served() > before + 100, { logs: () => `${gateway.logs()}\n${agent.logs()}` })
  await visitors.stop()
  t.same(visitors.failures, [])
})

t.test('requests that come while there is no gateway wait for one', async (t) => {
  const { gateway, nginx } = await startHeldWorld(t, {}, [/upstream prematurely closed|recv\(\) failed/])
  for (const [signal, code] of [['SIGTERM', '0'], ['SIGKILL', 'by a signal']] as const) {
    t.equal(await gateway.end(signal), code)
    const sockets = connected(nginx.port)
    const answers = Promise.all(Array.from({ length: 100 }, () => visit({ port: nginx.port })))
    await until('nginx has them all', () => sockets() >= 100)
    await gateway.start()
    t.same((await answers).filter(({ status }) => status !== 200).map(({ status, body }) => `${String(status)} ${body.toString()}`), [], signal)
  }
})

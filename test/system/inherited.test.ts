// Inherited sockets: a gateway that is restarted, or killed, under load keeps new requests waiting and fails none of them.
import { readFileSync, statSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { holdSockets } from '../harness/activation.ts'
import { type AgentProcess, startAgent } from '../harness/agent.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { begin, HOST, read, visit } from './visitor.ts'

const VISITORS = 8
/** Over the 64 KiB up to which a body goes by the h1 door. */
const LARGE_BODY_BYTES = 100_000

interface Load {
  readonly served: () => number
  readonly failures: readonly string[]
  stop(): Promise<void>
}

/** Visitors who each send one request after another: some with a body, by each door, over kept connections and new ones. */
function load(port: number): Load {
  const failures: string[] = []
  let stopped = false
  let served = 0
  const visitor = async (number: number): Promise<void> => {
    const agent = new http.Agent({ keepAlive: true })
    while (!stopped) {
      const body = number % 4 === 1 ? 'small' : number % 4 === 2 ? Buffer.alloc(LARGE_BODY_BYTES) : undefined
      const method = body === undefined ? 'GET' : 'POST'
      const length = body === undefined ? [] : ['Content-Length', String(body.length)]
      const answer = await visit({ port, method, path: `/${String(number)}`, headers: length, ...(body === undefined ? {} : { body }), ...(number % 2 === 0 ? { agent } : {}) }).catch((error: unknown) => String(error))
      if (typeof answer === 'string') failures.push(`${method}: ${answer}`)
      else if (answer.status !== 200 || !answer.complete) failures.push(`${method}: ${String(answer.status)} ${answer.body.toString()}`)
      else served++
    }
    agent.destroy()
  }
  const visitors = Array.from({ length: VISITORS }, (_v, number) => visitor(number))
  return {
    served: () => served,
    failures,
    stop: async () => {
      stopped = true
      await Promise.all(visitors)
    },
  }
}

/** Visitors' connections to nginx, by what the kernel knows. */
function connected(port: number): () => number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const established = '01'
  return () => readFileSync('/proc/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/)).filter((fields) => fields[1]?.endsWith(local) === true && fields[3] === established).length
}

async function world(t: Parameters<typeof startNginx>[0], settings: Readonly<Record<string, string>> = {}, expected: readonly RegExp[] = []) {
  const gateway = await holdSockets(t, settings)
  await gateway.start()
  const origin = await startOrigin(t, (request, response) => {
    request.resume()
    request.on('end', () => (request.url === '/events' ? void response.write('first\n') : response.end('ok')))
  })
  const nginx = await startNginx(t, { runDir: gateway.runDir, expected })
  const word = await gateway.command('agents', 'add', 'a', '--service', 'demo', '--host', HOST, '--url', nginx.url)
  const agent: AgentProcess = await startAgent(t, { join: word, target: origin.url })
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200)
  return { gateway, nginx, agent }
}

t.test('a restart under load fails no new request', async (t) => {
  const { gateway, nginx, agent } = await world(t)
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
  const { gateway, nginx } = await world(t, {}, [/upstream prematurely closed|recv\(\) failed/])
  for (const [signal, code] of [['SIGTERM', '0'], ['SIGKILL', 'by a signal']] as const) {
    t.equal(await gateway.end(signal), code)
    const sockets = connected(nginx.port)
    const answers = Promise.all(Array.from({ length: 100 }, () => visit({ port: nginx.port })))
    await until('nginx has them all', () => sockets() >= 100)
    await gateway.start()
    t.same((await answers).filter(({ status }) => status !== 200).map(({ status, body }) => `${String(status)} ${body.toString()}`), [], signal)
  }
})

t.test('while a stream without end is given its time, others are served on; then it breaks and they wait', async (t) => {
  const { gateway, nginx } = await world(t, { drain_ms: '1500' }, [/upstream prematurely closed/])
  const { request, answer } = begin({ port: nginx.port, path: '/events' })
  request.end()
  const stream = await answer
  const whole = read(stream)
  const visitors = load(nginx.port)
  let ended = false
  const code = gateway.end('SIGTERM').then((exit) => {
    ended = true
    return exit
  })
  await until('it leaves', () => gateway.events.some(({ event }) => event === 'leaving'))
  const before = visitors.served()
  await until('requests that came since are served', () => visitors.served() > before + 2 * VISITORS)
  t.notOk(ended, 'by the gateway that leaves')
  t.equal(await code, '0')
  t.match(await whole, { complete: false, bytes: 6 }, 'the visitor sees that it is not all')
  await gateway.start()
  const again = visitors.served()
  await until('requests are served again', () => visitors.served() > again + 2 * VISITORS)
  await visitors.stop()
  t.same(visitors.failures, [])
})

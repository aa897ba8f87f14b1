// What is set for agents that are connected counts within a second, at both ends, and no request is lost by it: neither short ones nor those that were under way long before.
import http from 'node:http'
import t, { type Test } from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { ask } from '../sidecar/control-socket.ts'
import { holds, startBetween } from '../threats/between.ts'
import { begin, HOST, read, visit } from './visitor.ts'

/** A second, and what a machine with other work to do takes to look. */
const SOON_MS = 2_000
const VISITORS = 3

interface Shown {
  readonly id: string
  readonly attached: boolean
  readonly sent_bytes: number
  readonly refused: readonly { readonly what: string; readonly reason: string }[]
}

async function start(t: Test, args: readonly string[]) {
  const port = await freePort()
  const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(port)}` } })
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const between = await startBetween(t, { target: port })
  const join = await gateway.addAgent('a', 'demo', HOST, `tcp://127.0.0.1:${String(between.port)}`)
  const held: http.ServerResponse[] = []
  const origin = await startOrigin(t, (request, response) => {
    if (request.url !== '/held') return void response.end(`GET ${request.url!} canary-in-the-clear`)
    response.write('begun ')
    held.push(response)
  })
  const agent = await runAgent(t, ['http', origin.url, ...args], { join })
  const sessions = async (): Promise<Shown[]> => (await ask(gateway.runDir, 'GET', '/v1/sessions')).json.items as Shown[]
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200)
  /** Sets it, and gives how long it took until `counts`. */
  const set = async (settings: object, counts: () => boolean | Promise<boolean>): Promise<number> => {
    const told = await ask(gateway.runDir, 'PUT', '/v1/settings', settings, { 'if-match': '*' })
    if (told.status !== 200) throw new Error(told.text)
    const began = performance.now()
    await until(`${JSON.stringify(settings)} counts`, counts, { logs: () => agent.logs() + gateway.logs() })
    return performance.now() - began
  }
  return { gateway, nginx, between, agent, held, sessions, set }
}

t.test('times count at once on the channel that there is, sealing by another session beside it, and no request is lost', async (t) => {
  const { nginx, between, agent, held, sessions, set } = await start(t, ['--policy', 'never'])
  const keeping = new http.Agent({ keepAlive: true })
  t.teardown(() => keeping.destroy())
  const slow = begin({ port: nginx.port, path: '/held' })
  slow.request.end()
  await until('it is under way', () => held.length === 1)
  let over = false
  let answered = 0
  const lost: string[] = []
  const visitor = async (n: number): Promise<void> => {
    for (let i = 0; !over; i++) {
      const path = `/${String(n)}/${String(i)}`
      try {
        const { status, body } = await visit({ port: nginx.port, path, agent: keeping })
        if (status !== 200 || !body.toString().startsWith(`GET ${path} `)) lost.push(`${path}: ${String(status)}`)
      } catch (error) {
        lost.push(`${path}: ${String(error)}`)
      }
      answered++
      await new Promise<void>((resolve) => void setImmediate(resolve))
    }
  }
  const visitors = Promise.all(Array.from({ length: VISITORS }, (_v, n) => visitor(n)))
  const [before] = await sessions()
  const clear = async (): Promise<boolean> => {
    const from = between.heard.map(({ toGateway }) => toGateway.length)
    const enough = answered + 20
    await until('visitors', () => answered > enough)
    return between.heard.some(({ toGateway }, at) => holds(Buffer.concat(toGateway.slice(from[at] ?? 0)), 'canary-in-the-clear'))
  }
  t.notOk(await clear())

  t.ok((await set({ streams_max_count: 7, first_credit_bytes: 131_072, grace_ms: 5_000 }, () => true)) < SOON_MS)
  t.equal((await sessions())[0]!.id, before!.id)
  t.ok((await set({ encryption: 'never' }, clear)) < SOON_MS * 2, 'unsealed')
  await until('the other session serves', async () => (await sessions()).length === 2)
  t.ok((await set({ encryption: 'always' }, async () => !(await clear()))) < SOON_MS * 2, 'sealed again')
  const from = answered
  await until('visitors', () => answered > from + 50)
  over = true
  await visitors
  t.same(lost, [])
  // It was there before all of it.
  held[0]!.end('ended')
  const slowly = await read(await slow.answer)
  t.match({ complete: slowly.complete, body: slowly.body.toString() }, { complete: true, body: 'begun ended' })
  await until('one session is left', async () => (await sessions()).length === 1)
  t.notOk(agent.events.some(({ event }) => event === 'lost'))
})

// Over long polls the gateway asks for no sign of life itself.
for (const kind of ['websocket', 'long-poll']) {
  t.test(`${kind}: a heartbeat and a grace that are set count at both ends, without another session`, async (t) => {
    const { gateway, between, agent, sessions, set } = await start(t, ['--channel', kind])
    const [before] = await sessions()
    const said = (): number[] => (['toGateway', 'toAgent'] as const).map((way) => between.heard.reduce((sum, one) => sum + one[way].length, 0))
    const first = said()
    t.ok((await set({ heartbeat_ms: 100, dead_after_ms: 3_000, grace_ms: 300 }, () => said().every((count, at) => count > first[at]! + 6))) < SOON_MS)
    t.equal((await sessions())[0]!.id, before!.id)
    await until('a while with them', () => said().every((count, at) => count > first[at]! + 30))
    t.notOk(agent.events.some(({ event }) => event === 'lost'))
    agent.signal('SIGKILL')
    // The gateway's own grace is 30 s: until() would not wait for that.
    await until('the gateway gave it up', () => gateway.events.some(({ event }) => event === 'session_ended'))
  })
}

t.test('an agent that takes nothing unsealed goes on, and says so', async (t) => {
  const { agent, sessions, set } = await start(t, [])
  const [before] = await sessions()
  await set({ encryption: 'never' }, async () => (await sessions())[0]!.refused.length === 1)
  t.same((await sessions()).map(({ id, refused }) => [id, refused]), [[before!.id, [{ what: 'encryption', reason: 'it was not started with policy never' }]]])
  t.match(await agent.event('setting_refused'), { what: 'encryption' })
  await set({}, async () => (await sessions())[0]!.refused.length === 0)
})

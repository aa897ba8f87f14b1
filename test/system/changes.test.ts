// Whatever an operator changes while visitors come, by API, command or file: no request is lost.
import http from 'node:http'
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { commandsOf } from '../sidecar/commands.ts'
import { ask, type Told } from '../sidecar/control-socket.ts'
import { HOST, visit } from './visitor.ts'

const VISITORS = 4
/** Requests between one change and the next. */
const BETWEEN = 20
const ANY = { 'if-match': '*' }

t.test('no request is lost by any change', async (t) => {
  const gateway = await startGateway(t)
  const origin = await startOrigin(t)
  // A session that is ended while its agent speaks: what it said last is not read any more.
  const nginx = await startNginx(t, { runDir: gateway.runDir, expected: [/recv\(\) failed \(104.*proxying upgraded connection/] })
  const run = commandsOf(gateway)
  const to = (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Told> => ask(gateway.runDir, method, path, body, headers)
  const added = async (id: string): Promise<string> => String((await to('POST', '/v1/agents', { id, services: ['demo'], url: nginx.url })).json.join)
  await to('PUT', '/v1/services/demo', { hosts: [HOST] })
  await startAgent(t, { join: await added('stays'), target: origin.url })
  const second = await startAgent(t, { join: await added('goes'), target: origin.url })
  const sessionsOf = async (agent: string): Promise<{ id: string }[]> => (await to('GET', `/v1/sessions?agent=${agent}`)).json.items as { id: string }[]

  let over = false
  let answered = 0
  const lost: string[] = []
  const agent = new http.Agent({ keepAlive: true })
  t.teardown(() => agent.destroy())
  let change = 'none'
  const visitor = async (n: number): Promise<void> => {
    for (let i = 0; !over; i++) {
      const path = `/${String(n)}/${String(i)}`
      const during = change
      try {
        const { status, body } = await visit({ port: nginx.port, path, agent })
        if (status !== 200 || body.toString() !== `GET ${path}\n`) lost.push(`${path} during ${during}: ${String(status)} ${body.toString().slice(0, 80)}`)
      } catch (error) {
        lost.push(`${path} during ${during}: ${String(error)}`)
      }
      answered++
      await new Promise<void>((resolve) => void setImmediate(resolve))
    }
  }
  await until('both serve', async () => (await sessionsOf('stays')).length + (await sessionsOf('goes')).length === 2 && (await visit({ port: nginx.port })).status === 200)
  const visitors = Promise.all(Array.from({ length: VISITORS }, (_v, n) => visitor(n)))
  const make = async (what: string, go: () => Promise<{ status?: number; code?: unknown }>): Promise<void> => {
    change = what
    const { status = 200, code = 0 } = await go()
    t.ok(status < 300 && code === 0, `${what}: ${String(status)}`)
    const from = answered
    await until(`visitors after ${what}`, () => answered > from + BETWEEN)
  }

  await make('another service', () => to('PUT', '/v1/services/other', { hosts: ['other.test'], policy: { state: 'off' } }))
  await make('another hostname', () => to('PATCH', '/v1/services/demo', { hosts: [HOST, 'more.test'] }, ANY))
  await make('other prefixes', () => to('PATCH', '/v1/services/demo', { prefixes: ['/', '/a'] }, ANY))
  await make('a policy', () => to('PATCH', '/v1/services/demo', { policy: { methods: ['GET'], response_fields: { add: [{ name: 'X-Added', value: '1' }] }, weights: { stays: 5 } } }, ANY))
  await make('the way that keeps trailers', () => to('PATCH', '/v1/services/demo', { trailers: true }, ANY))
  await make('no policy', () => to('PATCH', '/v1/services/demo', { policy: {}, trailers: false }, ANY))
  await make('settings of all', () => to('PUT', '/v1/settings', { connections: 2 }, ANY))
  await make('settings of one', () => to('PATCH', '/v1/agents/goes', { settings: { connections: 3 }, labels: ['x=y'] }, ANY))
  // It logs in once or twice for what was set, and the session that it leaves may go before it is cut.
  await until('it has the one session that was asked for', async () => {
    const sessions = (await sessionsOf('goes')) as unknown as { channels: unknown[] }[]
    return sessions.length === 1 && sessions[0]!.channels.length === 3
  })
  await make('a channel that is cut', async () => to('DELETE', `/v1/sessions/${(await sessionsOf('goes'))[0]!.id}/channels/0`))
  await make('a session that is ended', async () => to('DELETE', `/v1/sessions/${(await sessionsOf('goes'))[0]!.id}`))
  await until('its agent is back', async () => (await sessionsOf('goes')).length === 1)
  await make('a service less for one', () => to('PATCH', '/v1/agents/goes', { services: [] }, ANY))
  await make('and again', () => to('PATCH', '/v1/agents/goes', { services: ['demo'] }, ANY))
  await until('it serves again', async () => ((await sessionsOf('goes')) as unknown as { services: string[] }[])[0]?.services.length === 1)
  await make('an agent that is disabled', () => to('PATCH', '/v1/agents/goes', { disabled: true }, ANY))
  t.equal(await second.exited, 3)
  await make('an agent that is removed', () => to('DELETE', '/v1/agents/goes'))
  await make('a file, applied', () => {
    const file = join(gateway.runDir, '../state.yaml')
    writeFileSync(file, `services: { demo: { hosts: [${HOST}] }, third: { hosts: [third.test] } }\nagents: { stays: { services: [demo, third] } }\nsettings: {}\n`)
    return run(`apply --prune -f ${file}`)
  })
  await make('a command', () => run('services set demo --label gpu'))
  await make('a backup', () => run(`backup ${join(gateway.runDir, '../copy.db')}`))
  over = true
  await visitors
  t.same(lost.slice(0, 10), [], `${String(lost.length)} of ${String(answered)} requests were lost`)
})

// Threat 8: whoever has no right credential, or no longer, is out within five seconds on every channel: exit code 3, no route changes for the others, and the owner of a new one is in.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { decodeJoin, encodeJoin } from '../../protocol/join.ts'
import { type AgentProcess, runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { ask } from '../sidecar/control-socket.ts'

/** From the refusal on: what a process takes to start is not the gateway's. */
const OUT_MAX_MS = 5_000
/** From the command on until no visitor is sent there any more. */
const ROUTE_GONE_MAX_MS = 1_000
const KINDS = ['websocket', 'http2', 'tcp', 'sse', 'long-poll', 'pipe'] as const

const origin = await startOrigin(t)

for (const kind of KINDS) {
  t.test(`${kind}: each state of a credential`, async (t) => {
    const port = await freePort()
    // A gateway for each kind: wrong tries of one would slow down those of the others, which come from the same address.
    const url = `http://127.0.0.1:${String(port)}`
    const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(port)}`, public_url: url } })
    const call = async (method: string, path: string, body?: unknown, fields: Readonly<Record<string, string>> = {}) => {
      const told = await ask(gateway.runDir, method, path, body, fields)
      if (told.status >= 300) throw new Error(`${method} ${path}: ${String(told.status)} ${told.text}`)
      return told
    }
    const make = async (id: string): Promise<string> => {
      await call('PUT', `/v1/services/${id}`, { hosts: [`${id}.localhost`] })
      return String((await call('POST', '/v1/agents', { id, services: [id] })).json['join'])
    }
    const change = async (id: string, body: unknown): Promise<void> => {
      const { headers } = await call('GET', `/v1/agents/${id}`)
      await call('PATCH', `/v1/agents/${id}`, body, { 'if-match': String(headers['etag']) })
    }
    const soon = (ms: number): { expires_at: string } => ({ expires_at: new Date(Date.now() + ms).toISOString() })
    const ways: Readonly<Record<string, (id: string) => Promise<unknown>>> = {
      revoked: (id) => call('POST', `/v1/agents/${id}/revoke`, {}),
      expired: (id) => change(id, soon(500)),
      rotated: (id) => call('POST', `/v1/agents/${id}/rotate`, {}),
      disabled: (id) => change(id, { disabled: true }),
      deleted: (id) => call('DELETE', `/v1/agents/${id}`),
    }
    const start = (join: string, ready: boolean): Promise<AgentProcess> =>
      runAgent(t, ['http', origin.url, ...(kind === 'pipe' ? ['--pipe', `unix:${gateway.runDir}/agents.sock`] : ['--channel', kind])], { join, ready })
    const route = (id: string): string => readFileSync(joinPath(gateway.runDir, 'routes', `${id}.localhost`), 'latin1')
    const routes = (): string[] => readdirSync(joinPath(gateway.runDir, 'routes')).filter((name) => name.startsWith('stays')).map((name) => `${name} ${String(statSync(joinPath(gateway.runDir, 'routes', name)).mtimeMs)} ${route('stays')}`)

    const stays = await start(await make('stays'), true)
    await until('it is served', () => route('stays').startsWith('1 up'))
    const before = routes()

    const isOut = async (agent: AgentProcess, state: string): Promise<void> => {
      const { time } = await agent.event('refused')
      const code = await agent.exited
      t.equal(code, 3, `${state}: ${agent.logs()}`)
      t.ok(Date.now() - Date.parse(String(time)) < OUT_MAX_MS, state)
    }

    // While it serves.
    const serving = await Promise.all(Object.keys(ways).map(async (state) => {
      const join = await make(state)
      return { state, join, agent: await start(join, true) }
    }))
    await until('all are served', () => serving.every(({ state }) => route(state).startsWith('1 up')))
    await Promise.all(serving.map(async ({ state, agent }) => {
      await ways[state]!(state)
      const told = performance.now()
      await until(`${state}: its route is gone`, () => !route(state).startsWith('1 up'))
      const limit = ROUTE_GONE_MAX_MS + (state === 'expired' ? 500 : 0)
      t.ok(performance.now() - told < limit, `${state}: ${(performance.now() - told).toFixed(0)} ms`)
      await isOut(agent, `${state} while it serves`)
    }))

    // When it comes.
    const { key, secret } = decodeJoin(serving[0]!.join)
    const joins: Readonly<Record<string, string>> = {
      ...Object.fromEntries(serving.map(({ state, join }) => [state, join])),
      unknown: encodeJoin({ url, id: 'nobody', secret, key }),
      wrong: encodeJoin({ url, id: 'stays', secret, key }),
    }
    await Promise.all(Object.entries(joins).map(async ([state, join]) => isOut(await start(join, false), `${state} when it comes`)))
    t.same(routes(), before, 'nothing changed for the one that stays')

    // With the new secret it is in again.
    const again = await start(String((await call('POST', '/v1/agents/revoked/rotate', {})).json['join']), true)
    await until('it is served again', () => route('revoked').startsWith('1 up'))
    for (const agent of [again, stays]) {
      agent.signal('SIGTERM')
      t.equal(await agent.exited, 0)
    }
  })
}

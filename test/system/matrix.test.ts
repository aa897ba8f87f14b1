// Every channel by every way it can go passes the same suite of HTTP behaviour: the agent's command, real nginx, real proxies.
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startDante, startSquid } from '../harness/proxies.ts'
import { until } from '../harness/until.ts'
import { behaves, startBehaving } from './behaviour.ts'
import { HOST, visit } from './visitor.ts'

const behaving = await startBehaving(t)
const ownPort = await freePort()
const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(ownPort)}` } })
const [h2Port, agentsH2Port] = [await freePort(), await freePort()]
const nginx = await startNginx(t, {
  runDir: gateway.runDir,
  http: `server { listen 127.0.0.1:${String(h2Port)} http2; include EDGE/postern-server.conf; location / { client_max_body_size 0; try_files "" @postern; } }
    server { listen 127.0.0.1:${String(agentsH2Port)} http2; include EDGE/postern-agents.conf; }`,
})
const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)
const squid = await startSquid(t)
const noConnect = await startSquid(t, { more: 'acl tunnel method CONNECT\nhttp_access deny tunnel' })
const dante = await startDante(t)

const own = `127.0.0.1:${String(ownPort)}`
const throughH2 = `http://127.0.0.1:${String(agentsH2Port)}`
/** Kinds, and where each finds the gateway: as the join string says, if nothing else is said. */
const SOCKET_KINDS: readonly (readonly [string, string, readonly string[]])[] = [
  ['websocket', 'through nginx', []],
  ['http2', 'through nginx', ['--gateway', throughH2]],
  ['http2', 'straight', ['--gateway', `http://${own}`]],
  ['tcp', 'through nginx', []],
  ['tcp', 'straight', ['--gateway', `tcp://${own}`]],
  ['sse', 'through nginx', []],
  ['sse', 'straight', ['--gateway', `http://${own}`]],
  ['long-poll', 'through nginx', []],
  ['long-poll', 'straight', ['--gateway', `http://${own}`]],
]
const WAYS: readonly (readonly [string, string])[] = [
  ['directly', 'direct'],
  ['through squid', `http://127.0.0.1:${String(squid.port)}`],
  ['through dante', `socks5://127.0.0.1:${String(dante.port)}`],
]
const cells: { name: string; kind: string; args: readonly string[] }[] = []
for (const [kind, where, args] of SOCKET_KINDS) {
  for (const [how, proxy] of WAYS) cells.push({ name: `${kind} ${where}, ${how}`, kind, args: [...args, '--channel', kind, '--proxy', proxy] })
}
for (const kind of ['sse', 'long-poll']) {
  cells.push({ name: `${kind} through a proxy that allows no tunnel`, kind, args: ['--channel', kind, '--proxy', `http://127.0.0.1:${String(noConnect.port)}`] })
}
cells.push(
  { name: 'pipe, a command', kind: 'pipe', args: ['--pipe', `"${process.execPath}" sidecar/main.ts pipe --run-dir ${gateway.runDir}`] },
  { name: 'pipe, a unix socket', kind: 'pipe', args: ['--pipe', `unix:${gateway.runDir}/agents.sock`] },
)

for (const { name, kind, args } of cells) {
  t.test(`${name}: HTTP behaves`, async (t) => {
    const agent = await runAgent(t, ['http', behaving.origin.url, ...args], { join })
    t.equal((await agent.event('serving')).channel, kind)
    await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs: () => gateway.logs() + agent.logs() })
    await behaves(t, { port: nginx.port, h2Port }, behaving)
    agent.signal('SIGTERM')
    t.equal(await agent.exited, 0)
  })
}

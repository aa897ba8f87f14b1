// Threats 31, 32, 33, 39 and 40: secrets are in no argument, environment, log or readable file; nothing is packed or unpacked; no part is older than it may be.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import net from 'node:net'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { ask } from '../sidecar/control-socket.ts'
import { HOST, visit } from '../system/visitor.ts'

const CANARIES = { cookie: 'session=canary-cookie-3a', authorization: 'Bearer canary-token-9f', body: 'canary-body-62' }
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)

t.test('neither secret nor what visitors say is in arguments, environments, logs, error answers or files that others may read', async (t) => {
  const port = await freePort()
  const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(port)}` } })
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)
  const { secret } = decodeJoin(join)
  const home = t.testdir({})
  const file = joinPath(home, 'join')
  writeFileSync(file, `${join}\n`, { mode: 0o600 })
  const origin = await startOrigin(t, (request, response) => {
    // One that fails in the midst of it, so that something is logged of it.
    if (request.url === '/breaks') return void request.socket.destroy()
    request.resume().on('end', () => response.end('ok'))
  })
  const agent = await runAgent(t, ['http', origin.url, '--join-file', file], { home })
  const say = (path: string): ReturnType<typeof visit> => visit({ port: nginx.port, path, method: 'POST', headers: ['Cookie', CANARIES.cookie, 'Authorization', CANARIES.authorization], body: CANARIES.body })
  await until('it is served', async () => (await say('/')).status === 200)
  const broken = await say('/breaks')
  t.equal(broken.status, 502)
  const refused = await ask(gateway.runDir, 'POST', '/v1/agents', { id: 'agent-1', services: [] })
  const shown = await ask(gateway.runDir, 'GET', '/v1/agents/agent-1')
  const said = {
    'the gateway’s log': gateway.logs(),
    'the agent’s log': agent.logs(),
    'an error of the gateway': broken.body.toString(),
    'answers of the control server': refused.text + shown.text,
    ...Object.fromEntries([['gateway', gateway.pid()], ['agent', agent.child.pid!]].flatMap(([who, pid]) => ['cmdline', 'environ'].map((what) => [`${String(who)} ${what}`, readFileSync(`/proc/${String(pid)}/${what}`, 'latin1')]))),
  }
  for (const [where, text] of Object.entries(said)) for (const word of [secret, join, ...Object.values(CANARIES)]) t.notOk(text.includes(word), where)
  for (const line of gateway.logs().trim().split('\n')) t.ok(typeof JSON.parse(line) === 'object')

  t.equal(modeOf(gateway.stateDir), '700')
  for (const name of readdirSync(gateway.stateDir)) t.equal(modeOf(joinPath(gateway.stateDir, name)), '600', name)
  t.equal(modeOf(joinPath(gateway.runDir, 'control.sock')), '600')
  // What the store holds proves the secret and is not it.
  for (const name of readdirSync(gateway.stateDir)) t.notOk(readFileSync(joinPath(gateway.stateDir, name)).includes(secret), name)
  t.same(readdirSync(home).filter((name) => name !== 'join' && (statSync(joinPath(home, name)).mode & 0o007) !== 0 && !statSync(joinPath(home, name)).isDirectory()), [], 'what the agent wrote is its own')
  agent.signal('SIGTERM')
  await agent.exited

  await t.test('a websocket that offers compression gets none', async (t) => {
    const answer = await new Promise<string>((resolve) => {
      const socket = net.connect(port, '127.0.0.1')
      socket.once('data', (chunk: Buffer) => {
        resolve(chunk.toString('latin1'))
        socket.destroy()
      })
      const fields = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits']
      socket.write(`GET /_postern/channel HTTP/1.1\r\nHost: x\r\n${fields.join('\r\n')}\r\n\r\n`)
    })
    t.match(answer, /^HTTP\/1\.1 101 /)
    t.notMatch(answer, /sec-websocket-extensions/i)
  })
})

t.test('nothing that ships packs or unpacks', (t) => {
  const root = joinPath(import.meta.dirname, '../..')
  for (const folder of ['protocol', 'agent', 'sidecar', 'njs']) {
    for (const name of readdirSync(joinPath(root, folder)).filter((one) => one.endsWith('.ts'))) {
      t.notMatch(readFileSync(joinPath(root, folder, name), 'utf8'), /node:zlib|createGunzip|perMessageDeflate: true|compress: true|DecompressionStream/, name)
    }
  }
  t.end()
})

t.test('no part is older than it may be', (t) => {
  const { packages } = JSON.parse(readFileSync(joinPath(import.meta.dirname, '../../package-lock.json'), 'utf8')) as { packages: Record<string, { version?: string; engines?: { node?: string } }> }
  const parts = (version = '0'): number[] => version.split('.').map(Number)
  const atLeast = (version: string | undefined, least: string): boolean => {
    const [a, b] = [parts(version), parts(least)]
    const at = a.findIndex((part, i) => part !== b[i])
    return at < 0 || a[at]! > b[at]!
  }
  // 8.21 bounds fragments and buffered pieces.
  t.ok(atLeast(packages['node_modules/ws']?.version, '8.21.0'), packages['node_modules/ws']?.version ?? 'none')
  t.equal(packages['']?.engines?.node, '>=22.19')
  t.ok(atLeast(process.versions.node, '22.19.0'))
  t.end()
})

// Threats 27 and 28: what the gateway sets for an agent's TLS may ask for more than the agent itself and never for less, keeps no agent out for good, and its key is shown to nobody.
import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join as joinPath } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { pinOf } from '../../agent/trust.ts'
import { type AgentProcess, runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { until } from '../harness/until.ts'
import { ask } from '../sidecar/control-socket.ts'
import { makeAuthority, type Signed } from './authority.ts'
import { startFront } from './front.ts'

const MAIN = joinPath(import.meta.dirname, '../../agent/main.ts')
const [known, other, stranger] = [makeAuthority(t), makeAuthority(t), makeAuthority(t)]
const pem = (authority: typeof known): string => readFileSync(authority.certFile, 'utf8')
/** What the agents' system trusts. */
const system = joinPath(t.testdir({ 'system.pem': pem(known) + pem(other) }), 'system.pem')
const good = known.sign('gateway', { names: ['localhost', 'edge.test'] })
const [nameless, elsewhere] = [known.sign('gateway', { names: ['localhost'] }), other.sign('gateway', { names: ['localhost', 'edge.test'] })]
const pin = (signed: Signed): string => pinOf(new X509Certificate(signed.cert))

async function start(t: Test, args: readonly string[] = []) {
  const [plain, asking] = [await freePort(), await freePort()]
  const ports = { agents_address: `127.0.0.1:${String(plain)}`, agents_tls_address: `127.0.0.1:${String(asking)}`, agents_tls_cert: good.certFile, agents_tls_key: good.keyFile }
  const gateway = await startGateway(t, { settings: { ...ports, agents_tls_client_ca: known.certFile, grace_ms: 2_000 } })
  const front = await startFront(t, plain, good)
  const join = await gateway.addAgent('agent-1', 'demo', 'demo.localhost', `https://localhost:${String(front.port)}`)
  const home = mkdtempSync(joinPath(tmpdir(), 'postern-tls-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const agent = await runAgent(t, ['http', '3000', '--channel', 'websocket', ...args], { join, home, env: { NODE_EXTRA_CA_CERTS: system } })
  const session = async () => ((await ask(gateway.runDir, 'GET', '/v1/sessions')).json.items as { id: string; attached: boolean; refused: { what: string; reason: string }[] }[])[0]
  const set = async (tls: object | undefined): Promise<void> => {
    const told = await ask(gateway.runDir, 'PUT', '/v1/settings', tls === undefined ? {} : { tls }, { 'if-match': '*' })
    t.equal(told.status, 200, told.text)
    await until('the agent knows', () => (tls === undefined ? !/ tls\./.test(shows('whoami')) : / tls\./.test(shows('whoami'))))
  }
  const shows = (command: string): string => spawnSync(process.execPath, [MAIN, command], { env: { ...process.env, XDG_RUNTIME_DIR: home }, encoding: 'utf8' }).stdout
  const refusal = (what: string) => until(`it refuses ${what}`, async () => (await session())?.refused.find((one) => one.what === what), { logs: () => agent.logs() })
  return { gateway, front, agent, session, set, shows, refusal, asking }
}

const count = (agent: AgentProcess, name: string): number => agent.events.filter(({ event }) => event === name).length

/** Its channel is cut, and the next ones are shown this: it takes none of them, says why, and nothing is said to whoever showed it. */
async function turnsAway(t: Test, { agent, front }: Awaited<ReturnType<typeof start>>, shown: Parameters<typeof front.show>[0], why: RegExp): Promise<void> {
  const [failed, resumed] = [count(agent, 'failed'), count(agent, 'resumed')]
  front.show(shown)
  front.heardBytes = 0
  front.cut()
  await until('it takes none', () => count(agent, 'failed') > failed, { logs: () => agent.logs() })
  const event = agent.events.filter((one) => one.event === 'failed').at(-1)!
  t.equal(event.reason, 'tls')
  t.match(event.detail, why)
  t.equal(front.heardBytes, 0)
  front.show(good)
  await until('it takes the right one', () => count(agent, 'resumed') > resumed, { logs: () => agent.logs() })
}

t.test('an authority, a name and a version are asked for besides what the agent asks itself', async (t) => {
  const world = await start(t)
  const before = await world.session()
  await world.set({ ca: pem(known), server_name: 'edge.test', min_version: '1.3' })
  const shown = world.shows('whoami')
  t.match(shown, /^ {2}tls\.ca +CN=authority +gateway$/m)
  t.match(shown, /^ {2}tls\.server_name +edge\.test +gateway$/m)
  t.match(shown, /^ {2}tls\.min_version +1\.3 +gateway$/m)
  await turnsAway(t, world, elsewhere, /tls\.ca, and the certificate is signed by CN=authority, which none of these vouches for/)
  await turnsAway(t, world, nameless, /tls\.server_name, and the certificate is not for edge\.test/)
  await turnsAway(t, world, { ...good, maxVersion: 'TLSv1.2' }, /tls\.min_version, and the connection is TLSv1\.2, not 1\.3/)
  t.equal((await world.session())!.id, before!.id, 'nothing was lost by it')
  t.same((await world.session())!.refused, [])
})

t.test('what a channel does not meet while the session lives keeps the agent out no longer than that', async (t) => {
  const { agent, front, session, set, refusal } = await start(t)
  const before = await session()
  await set({ ca: pem(known) })
  front.show(elsewhere)
  front.cut()
  const said = await refusal('tls.ca')
  t.match(said.reason, /which none of these vouches for/)
  t.not((await session())!.id, before!.id)
  t.match(agent.events.find(({ event }) => event === 'setting_refused'), { what: 'tls.ca' })
})

t.test('a mistake of the operator cuts nobody off: it is refused, and said', async (t) => {
  const { agent, front, session, set, refusal, shows } = await start(t)
  await set({ ca: pem(stranger), server_name: 'egde.test', min_version: '1.2' })
  t.match((await refusal('tls.ca')).reason, /signed by CN=authority/)
  t.match((await refusal('tls.server_name')).reason, /not for egde\.test/)
  t.match(shows('status'), /^ {2}not as the gateway has set it: tls\.server_name: the certificate is not for egde\.test$/m)
  front.cut()
  await agent.event('resumed')
  t.equal(count(agent, 'failed'), 0)
  await set(undefined)
  await until('nothing is refused', async () => (await session())!.refused.length === 0)
})

t.test('an authority that the gateway sets vouches for nobody whom the agent would not take', async (t) => {
  const world = await start(t)
  await world.set({ ca: pem(known) + pem(stranger) })
  t.same((await world.session())!.refused, [])
  await turnsAway(t, world, stranger.sign('gateway', { names: ['localhost'] }), /unable to verify|self-signed|local issuer/)
  const own = await start(t, ['--ca', known.certFile])
  await own.set({ ca: pem(other) })
  t.same(await own.refusal('tls.ca'), { what: 'tls.ca', reason: 'it has authorities of its own' })
  await turnsAway(t, own, elsewhere, /unable to verify|self-signed|local issuer/)
})

t.test('another key than those that the gateway names is reported, and the channel serves on; another than the agent’s own pin ends it', async (t) => {
  const world = await start(t, ['--pin', pin(good)])
  const { agent, session, set, refusal, shows } = world
  await set({ pins: [pin(elsewhere)] })
  t.match((await refusal('tls.pins')).reason, pin(good))
  t.match(shows('status'), /not as the gateway has set it: tls\.pins: the gateway's end shows another key/)
  t.match(await agent.event('setting_refused'), { what: 'tls.pins' })
  t.equal(count(agent, 'lost'), 0)
  await turnsAway(t, world, elsewhere, /another key than the one that is pinned/)
  await set({ pins: [Buffer.from(pin(good), 'base64').toString('hex')] })
  await until('nothing is refused', async () => (await session())!.refused.length === 0)
})

t.test('a certificate that the gateway gives lets the agent in where certificates are asked for, and its key is in no answer, log, history or table', async (t) => {
  const { gateway, front, agent, session, set, shows, asking } = await start(t)
  const before = await session()
  const client = known.sign('agent')
  await set({ client_cert: client.cert, client_key: client.key })
  front.pass(asking)
  front.cut()
  await agent.event('resumed')
  t.equal((await session())!.id, before!.id)
  // A login shows it too.
  await gateway.command('sessions', 'disconnect', before!.id)
  await until('it is there again', async () => ((await session())?.id ?? before!.id) !== before!.id, { logs: () => agent.logs() })

  const key = client.key.split('\n')[1]!
  const kept = { client_cert: client.cert, client_key: 'kept' }
  const etag = String((await ask(gateway.runDir, 'GET', '/v1/settings')).headers.etag)
  t.same((await ask(gateway.runDir, 'PUT', '/v1/settings', { connections: 1, tls: kept }, { 'if-match': etag })).json, { connections: 1, tls: kept })
  const put = await ask(gateway.runDir, 'PATCH', '/v1/agents/agent-1', { settings: { tls: { client_cert: client.cert, client_key: client.key } } }, { 'if-match': '*' })
  t.match(put.json, { settings: { tls: kept } })
  const file = joinPath(t.testdir({}), 'tunnel.yaml')
  writeFileSync(file, JSON.stringify({ settings: { tls: { client_cert: client.cert, client_key: client.key } } }))
  const paths = ['/v1/settings', '/v1/agents', '/v1/agents/agent-1', '/v1/history', '/v1/sessions', '/v1/openapi.json']
  const said: Record<string, string> = {
    put: put.text,
    ...Object.fromEntries(await Promise.all(paths.map(async (path) => [path, (await ask(gateway.runDir, 'GET', path)).text] as const))),
    'the gateway’s log': gateway.logs(),
    'the agent’s log': agent.logs(),
    status: shows('status'),
    whoami: shows('whoami'),
    'a dry run': await gateway.command('apply', '-f', file, '--dry-run'),
    apply: await gateway.command('apply', '-f', file),
    'the history of it': await gateway.command('history', 'list', '--json'),
    export: await gateway.command('export'),
    settings: await gateway.command('settings', 'show'),
    history: await gateway.command('history', 'list', '--json'),
  }
  for (const [where, text] of Object.entries(said)) t.notOk(text.includes(key), where)
  t.match(said.history, /"client_key": ?"kept"/)
  t.ok(readdirSync(gateway.stateDir).some((name) => readFileSync(joinPath(gateway.stateDir, name)).includes(key)), 'the store has it')

  const wrong = async (tls: object): Promise<{ code: unknown; text: string }> => {
    const { json: { code, detail }, text } = await ask(gateway.runDir, 'PATCH', '/v1/agents/agent-1', { settings: { tls } }, { 'if-match': '*' })
    return { code: `${String(code)}: ${String(detail)}`, text }
  }
  /** Fields of a block are not in base64. */
  const locked = client.key.replace('\n', '\nDEK-Info: AES-128-CBC,00\n')
  const cases: [object, RegExp][] = [
    [{ client_cert: nameless.cert, client_key: client.key }, /settings\.tls\.client_key is not the key of client_cert/],
    [{ client_cert: client.cert }, /settings\.tls\.client_key is needed/],
    [{ ca: client.cert + client.key }, /settings\.tls\.ca should be certificates in PEM, and nothing else/],
    [{ client_key: client.key.replace('PRIVATE KEY', 'PUBLIC KEY') }, /settings.tls.client_key must match pattern/],
    [{ client_cert: client.cert + locked, client_key: client.key }, /settings\.tls\.client_cert should be certificates in PEM, and nothing else/],
    [{ ca: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n' }, /settings\.tls\.ca should be certificates/],
    [{ ca: `${'\n'.repeat(8_000)}${good.cert}`, client_cert: `${'\n'.repeat(7_000)}${client.cert}`, client_key: client.key }, /settings\.tls is of more than 30000 bytes/],
  ]
  for (const [tls, why] of cases) {
    const { code, text } = await wrong(tls)
    t.match(code, why)
    t.match(code, /^invalid/)
    t.notOk(text.includes(key))
  }
  const fresh = await ask(gateway.runDir, 'POST', '/v1/agents', { id: 'agent-2', url: 'https://edge.test', settings: { tls: kept } })
  t.match(fresh.json, { status: 400, detail: 'settings.tls.client_key there is none to be kept' })
})

t.test('a certificate that the gateway gave, and that is taken no more, keeps no agent out', async (t) => {
  const { front, agent, session, set } = await start(t)
  const before = await session()
  const client = stranger.sign('agent')
  await set({ client_cert: client.cert, client_key: client.key })
  front.show({ ...good, ca: pem(known), requestCert: true, rejectUnauthorized: false })
  front.cut()
  await until('it is there again', async () => ((await session())?.id ?? before!.id) !== before!.id, { logs: () => agent.logs() })
  t.ok(agent.events.some(({ event }) => event === 'failed'), 'with it nothing came of it')
})

t.test('where no TLS is spoken, and where the agent has a certificate of its own, it says so', async (t) => {
  const client = known.sign('agent')
  const { set, refusal } = await start(t, ['--client-cert', client.certFile, '--client-key', client.keyFile])
  const second = known.sign('agent')
  await set({ client_cert: second.cert, client_key: second.key })
  t.same(await refusal('tls.client_cert'), { what: 'tls.client_cert', reason: 'it has a certificate of its own' })
  const port = await freePort()
  const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(port)}` } })
  const join = await gateway.addAgent('agent-1', 'demo', 'demo.localhost', `tcp://127.0.0.1:${String(port)}`)
  t.equal((await ask(gateway.runDir, 'PUT', '/v1/settings', { tls: { server_name: 'edge.test' } }, { 'if-match': '*' })).status, 200)
  const agent = await runAgent(t, ['http', '3000'], { join })
  t.match(await agent.event('setting_refused'), { what: 'tls.server_name', reason: 'none of its channels speaks TLS' })
})

// `postern status` tells what the agents of a user do, by a socket that is only theirs, and an agent without one serves all the same.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { answerStatus, askAgents, socketPlace } from '../../agent/status-socket.ts'
import { type StatusDocument, statusLines } from '../../agent/status-text.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { runAgent } from '../harness/agent.ts'
import { type Ends, startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { startGate } from './gate.ts'

const MAIN = join(import.meta.dirname, '../../agent/main.ts')

// Not under testdir: a socket's path has 107 bytes at most.
function homeOf(t: Ends): string {
  const home = mkdtempSync(join(tmpdir(), 'postern-status-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  return home
}

function status(home: string, ...args: readonly string[]): { code: number | null; out: string } {
  const { status: code, stdout } = spawnSync(process.execPath, [MAIN, 'status', ...args], { env: { ...process.env, XDG_RUNTIME_DIR: home }, encoding: 'utf8' })
  return { code, out: stdout }
}

t.test('where no agent runs it says so', (t) => {
  const home = homeOf(t)
  t.match(status(home), { code: 1, out: 'no agent of this user runs here\n' })
  t.match(status(home, '--json'), { code: 1, out: '[]\n' })
  t.end()
})

t.test('it tells of each agent, its session and its channels, without a secret', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const home = homeOf(t)
  const agents = await Promise.all([0, 1].map(() => runAgent(t, ['http', origin.url], { join: gate.join, home })))
  const { code, out } = status(home, '--json')
  t.equal(code, 0)
  const documents = JSON.parse(out) as StatusDocument[]
  t.same(new Set(documents.map(({ pid }) => pid)), new Set(agents.map(({ child }) => child.pid)))
  const { id, secret, url } = decodeJoin(gate.join)
  for (const document of documents) {
    t.match(document, { agent: id, gateway: url, state: 'serving', session: /^[0-9a-f]{32}$/, exchanges: 0, services: [{ name: 'demo', hosts: ['demo.example'], target: origin.url }] })
    t.match(document.channels, [{ kind: 'websocket', way: 'direct', lanes: [0], age_ms: Number, sent_bytes: Number, received_bytes: Number }])
    t.ok(Date.parse(document.since!) <= Date.now())
  }
  const shown = status(home)
  t.equal(shown.code, 0)
  t.match(shown.out, new RegExp(`^an-agent \\(process ${String(agents[0]!.child.pid)}\\) at ${url}: session [0-9a-f]{32} since `, 'm'))
  t.match(shown.out, /^ {2}demo\.example → http/m)
  t.match(shown.out, /^ {2}KIND +WAY +ROUND TRIP +AGE +SENT +RECEIVED +LANES\n {2}websocket +direct +- +\d+ s +\S+ k?B +\S+ k?B +0$/m)
  t.notMatch(out + shown.out, secret)
  const folder = join(home, 'postern')
  t.equal(statSync(folder).mode & 0o777, 0o700)
  await agents[0]!.stop()
  agents[1]!.signal('SIGTERM')
  await agents[1]!.exited
  t.equal(readdirSync(folder).length, 1, 'one that was killed leaves its socket')
  t.equal(status(home).code, 1)
  t.notOk(existsSync(folder) && readdirSync(folder).length > 0, 'which is removed when it is asked')
})

t.test('it tells how many bytes each channel carried each way', async (t) => {
  const BODY_BYTES = 1_000_000
  const gate = await startGate(t)
  const origin = await startOrigin(t, (request, response) => void request.resume().on('end', () => response.end(Buffer.alloc(BODY_BYTES))))
  const home = homeOf(t)
  await runAgent(t, ['http', origin.url], { join: gate.join, home })
  t.equal((await gate.answered(gate.visit())).text.length, BODY_BYTES)
  const [document] = JSON.parse(status(home, '--json').out) as StatusDocument[]
  const [{ sent_bytes: sent, received_bytes: received }] = document!.channels as [StatusDocument['channels'][number]]
  t.ok(sent >= BODY_BYTES && sent < 1.1 * BODY_BYTES, `${String(sent)} bytes to the gateway`)
  t.ok(received > 0 && received < 0.1 * BODY_BYTES, `${String(received)} bytes from it`)
  t.match(status(home).out, /^ {2}websocket .* s +1\.[01] MB +[\d.]+ k?B +0$/m)
  const [facts] = gate.sessions[0]!.channelFacts
  // It stood still while the commands ran.
  await until('the other end counts the same', () => facts!.volume.receivedBytes >= sent && facts!.volume.sentBytes >= received)
})

t.test('an agent that seeks its gateway says so', async (t) => {
  const gate = await startGate(t)
  await gate.stop()
  const home = homeOf(t)
  const agent = await runAgent(t, ['http', '1'], { join: gate.join, home, ready: false })
  await agent.event('failed')
  const [document] = JSON.parse(status(home, '--json').out) as StatusDocument[]
  t.match(document, { state: /seeking|waiting/, session: null, since: null, channels: [] })
})

t.test('where the socket can not be made the agent serves all the same', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const home = homeOf(t)
  writeFileSync(join(home, 'postern'), 'a file')
  await runAgent(t, ['http', origin.url], { join: gate.join, home })
  t.equal((await gate.answered(gate.visit())).status, '200')
  t.equal(status(home).code, 1)
})

t.test('a folder that is not its user\'s alone is not used', async (t) => {
  const home = homeOf(t)
  const elsewhere = homeOf(t)
  const place = (folder: string): { folder: string; prefix: string } => ({ folder, prefix: 'agent-' })
  const open = join(home, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  symlinkSync(elsewhere, join(home, 'link'))
  for (const folder of [open, join(home, 'link')]) {
    const stop = answerStatus(place(folder), '1', () => ({}))
    // What would be there by now, were it made.
    const own = join(home, 'own')
    const stopOwn = answerStatus(place(own), '1', () => ({}))
    await until('one in a folder of its own is', () => existsSync(join(own, 'agent-1.sock')))
    t.same(readdirSync(folder), [])
    t.same(await askAgents(place(folder)), [])
    stop()
    stopOwn()
  }
})

t.test('what answers there is believed to be an agent only if it answers soon, shortly and in JSON', async (t) => {
  const home = homeOf(t)
  const folder = join(home, 'postern')
  mkdirSync(folder, { mode: 0o700 })
  const answers: readonly ((socket: net.Socket) => void)[] = [
    (socket) => socket.end('no JSON'),
    (socket) => socket.end('3'),
    (socket) => socket.destroy(),
    (socket) => void socket.write('{"a":'),
    (socket) => socket.end('x'.repeat(2_000_000)),
    (socket) => socket.end('{"right":true}'),
  ]
  for (const [i, answer] of answers.entries()) {
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined)
      answer(socket)
    })
    t.teardown(() => server.close())
    await new Promise<void>((resolve) => server.listen(join(folder, `agent-${String(i)}.sock`), resolve))
  }
  mkdirSync(join(folder, 'agent-folder.sock'))
  writeFileSync(join(folder, 'agent-file.sock'), '')
  t.same(await askAgents({ folder, prefix: 'agent-' }), [{ right: true }])
})

t.test('whoever asks and does not go keeps no agent from ending', async (t) => {
  const gate = await startGate(t)
  const home = homeOf(t)
  const agent = await runAgent(t, ['http', '1'], { join: gate.join, home })
  const socket = net.connect({ path: join(home, 'postern', `agent-${String(agent.child.pid)}.sock`), allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined)
  await new Promise((resolve) => socket.once('connect', resolve))
  agent.signal('SIGTERM')
  t.equal(await agent.exited, 0)
})

t.test('each system has its place', (t) => {
  const whose = { platform: 'linux', runtimeDir: '/run/user/7', temporary: '/tmp', user: '7' } as const
  t.same(socketPlace(whose), { folder: '/run/user/7/postern', prefix: 'agent-' })
  t.same(socketPlace({ ...whose, runtimeDir: undefined }), { folder: '/tmp/postern-7', prefix: 'agent-' })
  t.same(socketPlace({ ...whose, runtimeDir: '' }), { folder: '/tmp/postern-7', prefix: 'agent-' })
  t.same(socketPlace({ ...whose, platform: 'win32', user: 'ann' }), { folder: '\\\\.\\pipe\\', prefix: 'postern-ann-' })
  t.end()
})

t.test('nothing that an agent was told by others makes a line of its own, or moves a terminal', (t) => {
  const nasty = 'a\nb\u001b[31m\u202e'
  const channel = { kind: nasty, way: nasty, round_trip_ms: 1, age_ms: 90_000_000, sent_bytes: 0, received_bytes: 0, lanes: [0, 1] }
  const document = { pid: 1, version: '1', agent: nasty, gateway: nasty, state: 'serving', session: 's', age_ms: 1, since: 's', exchanges: 1, services: [{ name: nasty, hosts: [nasty], target: nasty }], channels: [channel], offers: [], settings: [] } as const
  for (const line of statusLines(document)) t.notMatch(line, /[\p{Cc}\p{Cf}]/u)
  t.equal(statusLines(document).length, 5)
  t.end()
})

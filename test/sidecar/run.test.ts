// The gateway as a process: how signals end it, who can't hold it up, and that it goes on when nobody reads its log.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { groupId } from '../../sidecar/settings.ts'
import { startGateway } from '../harness/gateway.ts'
import type { Ends } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { folders } from './commands.ts'
import { ask } from './control-socket.ts'

const MAIN = join(import.meta.dirname, '../../sidecar/main.ts')

function dial(t: Ends, path: string, bytes: string): Socket {
  const socket = connect({ path })
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.resume()
  socket.write(bytes)
  return socket
}

/** A request as nginx sends it, for a service whose agent is still to come. */
const waiting = (service: string): string => `GET / HTTP/1.1\r\nHost: demo.test\r\nPostern: 1;${'a'.repeat(32)};${service};127.0.0.1;1000;http;demo.test;1;\r\n\r\n`

t.test('the first signal lets a request under way go on, the second does not wait', async (t) => {
  for (const signals of [1, 2]) {
    const gateway = await startGateway(t, { settings: { agent_wait_ms: 60_000, grace_ms: 600_000, drain_ms: signals === 1 ? 300 : 60_000 } })
    await ask(gateway.runDir, 'PUT', '/v1/services/demo', { hosts: ['demo.test'] })
    dial(t, join(gateway.runDir, 'ingress.sock'), waiting('demo'))
    await until('it is under way', async () => (await ask(gateway.runDir, 'GET', '/v1/ready')).json.exchanges === 1)
    const code = gateway.stop()
    await until('it leaves', () => gateway.events.some(({ event, exchanges }) => event === 'leaving' && exchanges === 1))
    if (signals === 2) process.kill(gateway.pid(), 'SIGTERM')
    t.equal(await code, signals === 1 ? 0 : 1, 'whoever looks at the code knows whether something broke')
    t.equal(gateway.events.some(({ event }) => event === 'left'), signals === 1)
  }
})

t.test('an idle visitor, an idle agent and a control request without end do not keep it', async (t) => {
  const gateway = await startGateway(t)
  const { runDir } = gateway
  const ends = ['ingress', 'ingress-h2', 'agents'].map((name) => dial(t, join(runDir, `${name}.sock`), ''))
  ends.push(dial(t, join(runDir, 'control.sock'), 'POST /v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{'))
  // Not once(): that rejects on an error, which is one way to be closed.
  const closed = ends.map((socket) => new Promise((resolve) => socket.once('close', resolve)))
  for (const socket of ends) if (socket.connecting) await once(socket, 'connect')
  t.equal(await gateway.stop(), 0)
  await Promise.all(closed)
})

t.test('it makes its sockets for its group, and its folders when they are missing', { skip: process.getuid?.() !== 0 && 'giving a file to a group needs root' }, async (t) => {
  const { runDir } = await startGateway(t, { settings: { socket_group: 'tty' } })
  const tty = groupId('tty')
  for (const [name, mode, gid] of [['ingress', 0o660, tty], ['ingress-h2', 0o660, tty], ['agents', 0o660, tty], ['control', 0o600, 0]] as const) {
    const stat = statSync(join(runDir, `${name}.sock`))
    t.same([stat.mode & 0o777, stat.gid], [mode, gid], name)
  }
  t.equal(statSync(runDir).mode & 0o777, 0o755, 'nginx looks into it')
})

t.test('it goes on when whoever read its log is gone', async (t) => {
  const { runDir, stateDir } = folders(t)
  const child: ChildProcess = spawn(process.execPath, [MAIN, 'start', '--run-dir', runDir, '--state-dir', stateDir], { stdio: ['ignore', 'pipe', 'ignore'] })
  const exited = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  await once(child.stdout!, 'data')
  child.stdout!.destroy()
  for (let i = 0; i < 20; i++) {
    const stranger = dial(t, join(runDir, 'agents.sock'), 'GET /_postern/channel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x82\x80')
    await new Promise((resolve) => stranger.once('close', resolve))
  }
  t.equal((await ask(runDir, 'GET', '/v1/ready')).status, 200)
  child.kill('SIGTERM')
  t.same(await exited, [0, null])
})

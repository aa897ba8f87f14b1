// The sockets: their modes, stale files, somebody else's socket, and the names of inherited ones.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { inherited, type InheritedName, listen } from '../../sidecar/sockets.ts'

t.test('each is bound with its mode; a stale file goes, a live one stays', async (t) => {
  // A socket's path has at most 107 bytes: too few for the folder that is named after the test.
  const runDir = mkdtempSync(join(tmpdir(), 'postern-'))
  t.teardown(() => rmSync(runDir, { recursive: true }))
  const places = { runDir, fds: new Map<InheritedName, number>(), groupId: undefined }
  const path = join(runDir, 'control.sock')
  // A process that dies leaves its socket file.
  spawnSync(process.execPath, ['-e', `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`, path])
  t.ok(statSync(path).isSocket())
  const [control, ingress, other] = [createServer(), createServer(), createServer()]
  t.teardown(() => [control, ingress].map((server) => server.close()))
  await listen(control, 'control', places)
  await listen(ingress, 'ingress', places)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.equal(statSync(join(runDir, 'ingress.sock')).mode & 0o777, 0o660)
  await t.rejects(listen(other, 'control', places), /another process/)
})

t.test('inherited ones are told by name, and only to the process they are meant for', (t) => {
  const env = { LISTEN_FDS: '2', LISTEN_PID: '7', LISTEN_FDNAMES: 'agents:ingress-h2' }
  t.same([...inherited(env, 7)], [['agents', 3], ['ingress-h2', 4]])
  t.same([...inherited({ ...env, LISTEN_FDNAMES: 'agents-tls-port:agents-port' }, 7)], [['agents-tls-port', 3], ['agents-port', 4]])
  t.equal(inherited(env, 8).size, 0)
  t.throws(() => inherited({ ...env, LISTEN_FDNAMES: 'agents:x' }, 7), /"x"/)
  t.end()
})

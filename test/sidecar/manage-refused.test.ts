// Who may not manage a gateway: a second process on its store, one of another version, one without the right; and what is said of a store that is none.
import { execFile, spawn } from 'node:child_process'
import { chmodSync, existsSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { startGateway } from '../harness/gateway.ts'
import { commandsOf, folders, type Ran } from './commands.ts'
import { ask } from './control-socket.ts'

t.test('a second gateway on the same store, or the same sockets, is refused and says why', async (t) => {
  const gateway = await startGateway(t)
  const { stateDir, runDir } = gateway
  const other = folders(t)
  const sameStore = await commandsOf({ stateDir, runDir: other.runDir })('start')
  t.equal(sameStore.code, 1)
  t.match(JSON.parse(sameStore.stdout), { event: 'not_started', detail: /postern\.db is in use by another process/ })
  const command = await commandsOf({ stateDir, runDir: other.runDir })('agents list')
  t.match(command, { code: 1, stderr: /postern\.db is in use by another process\n$/ })
  const sameSockets = await commandsOf({ stateDir: other.stateDir, runDir })('start')
  t.equal(sameSockets.code, 1)
  t.match(JSON.parse(sameSockets.stdout), { event: 'not_started', detail: /agents\.sock: another process listens there/ })
  t.equal((await ask(runDir, 'GET', '/v1/ready')).status, 200, 'the first one does not notice')
})

t.test('a store of a newer version is not touched', async (t) => {
  const dirs = folders(t)
  const run = commandsOf(dirs)
  t.equal((await run('services add s --host s.test')).code, 0)
  const db = new DatabaseSync(join(dirs.stateDir, 'postern.db'))
  db.exec('PRAGMA user_version = 99')
  db.close()
  t.match(await run('services list'), { code: 1, stderr: /written by a newer version \(schema 99/ })
  const start = await run('start')
  t.equal(start.code, 1)
  t.match(JSON.parse(start.stdout), { event: 'not_started', detail: /written by a newer version/ })
})

t.test('a file that is no store is refused', async (t) => {
  const dirs = folders(t)
  const run = commandsOf(dirs)
  t.equal((await run('services add s --host s.test')).code, 0)
  const child = spawn('sh', ['-c', `head -c 8192 /dev/urandom > ${join(dirs.stateDir, 'postern.db')}`])
  await new Promise((resolve) => child.once('close', resolve))
  t.match(await run('services list'), { code: 1, stderr: /not a database/ })
})

t.test('whatever answers on control.sock without being a gateway makes it unreachable: exit code 4', async (t) => {
  const dirs = folders(t)
  const { runDir } = await startGateway(t).then(async (gateway) => {
    await gateway.kill()
    return gateway
  })
  rmSync(join(runDir, 'control.sock'), { force: true })
  const server = createServer((socket) => socket.on('error', () => undefined).end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi'))
  await new Promise<void>((resolve) => server.listen(join(runDir, 'control.sock'), resolve))
  t.teardown(() => server.close())
  t.match(await commandsOf({ ...dirs, runDir })('agents list'), { code: 4, stderr: /is no gateway\n$/ })
  server.removeAllListeners('connection')
  server.on('connection', (socket) => socket.destroy())
  t.match(await commandsOf({ ...dirs, runDir })('agents list'), { code: 4, stderr: /control\.sock/ })
  t.notOk(existsSync(dirs.stateDir), 'no store is made beside a gateway that does not answer')
})

t.test('who may not connect is told so', { skip: process.getuid?.() !== 0 && 'becoming another user needs root' }, async (t) => {
  const gateway = await startGateway(t)
  chmodSync(join(gateway.runDir, '..'), 0o755)
  const ran = await new Promise<Ran>((resolve) => {
    // nobody's: it may enter the folder, not connect. It becomes nobody once it runs: the repository may lie where only root gets to.
    const script = `process.setgroups([]); process.setgid(65534); process.setuid(65534); require('net').connect(process.argv[1]).on('error', (error) => { console.log(error.code); process.exit(1) }).on('connect', () => process.exit(0))`
    execFile(process.execPath, ['-e', script, join(gateway.runDir, 'control.sock')], { cwd: '/' }, (error, stdout, stderr) => resolve({ code: error === null ? 0 : error.code, stdout, stderr }))
  })
  t.match(ran, { code: 1, stdout: 'EACCES\n' })
})

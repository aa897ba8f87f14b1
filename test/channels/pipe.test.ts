// The pipe channel's own ways: what `postern-gateway pipe` passes on and says, commands that fail, and that nothing they started is left behind; through a real sshd too.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { processEnvironment } from '../../agent/environment.ts'
import { dialPipe } from '../../agent/pipe.ts'
import { freePort } from '../../dev/free-port.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { probe } from '../../protocol/probe.ts'
import { isAlive } from '../harness/proc.ts'
import { startGateway } from '../harness/gateway.ts'
import { until } from '../harness/until.ts'

const GATEWAY = join(import.meta.dirname, '../../sidecar/main.ts')
const ENVIRONMENT = processEnvironment({ heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 })
const PROBE_MS = 15_000

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'postern-pipe-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Resolves with a carrier, or with why there is none. */
function dialed(t: Test, pipe: string): Promise<Carrier | string> {
  return new Promise((resolve) => {
    dialPipe({ gateway: 'http://127.0.0.1:1', userAgent: 'test', pipe }, (outcome) => {
      if ('reason' in outcome) return resolve(`${outcome.reason}: ${outcome.detail}`)
      t.teardown(() => outcome.abort())
      resolve(outcome)
    })
  })
}

/** Resolves with why a carrier closed. */
async function ended(t: Test, pipe: string): Promise<string> {
  const carrier = await dialed(t, pipe)
  return typeof carrier === 'string' ? carrier : new Promise((resolve) => (carrier.onClosed = resolve))
}

/** The ids that commands of a test wrote into a file, once it has so many. */
const idsIn = (path: string, count: number): Promise<string[]> => until('the command has begun', () => {
  const ids = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter((line) => line !== '') : []
  return ids.length >= count && ids
})

t.test('postern-gateway pipe passes bytes and ends on, both ways, and says nothing of its own', async (t) => {
  const runDir = folder(t)
  const came: Socket[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => came.push(socket))
  await new Promise<void>((resolve) => server.listen(join(runDir, 'agents.sock'), resolve))
  t.teardown(() => server.close())
  for (const first of ['input', 'gateway'] as const) {
    came.length = 0
    const child = spawn(process.execPath, [GATEWAY, 'pipe', '--run-dir', runDir], { stdio: ['pipe', 'pipe', 'pipe'] })
    const closed = once(child, 'close')
    const [out, err, up]: Buffer[][] = [[], [], []]
    child.stdout.on('data', (chunk: Buffer) => out!.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err!.push(chunk))
    const sent = Buffer.from(Array.from({ length: 300_000 }, (_value, i) => (i * 7) % 256))
    child.stdin.write(sent)
    await until('it came', () => came.length > 0)
    came[0]!.on('data', (chunk: Buffer) => up!.push(chunk))
    await until('all came', () => Buffer.concat(up!).length === sent.length)
    if (first === 'input') {
      child.stdin.end()
      await once(came[0]!, 'end')
      came[0]!.end(sent)
    } else came[0]!.end(sent)
    t.same(await closed, [0, null], `the ${first} ends first`)
    t.ok(Buffer.concat(up!).equals(sent))
    t.ok(Buffer.concat(out!).equals(sent), 'what came after the end of the input came too')
    t.equal(Buffer.concat(err!).toString(), '')
    came[0]!.destroy()
  }
})

t.test('without a gateway postern-gateway pipe says so in a line and ends with code 4', async (t) => {
  const dir = folder(t)
  const child = spawn(process.execPath, [GATEWAY, 'pipe', '--run-dir', dir], { stdio: ['pipe', 'pipe', 'pipe'] })
  const [out, err]: string[][] = [[], []]
  child.stdout.on('data', (chunk: Buffer) => out!.push(chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => err!.push(chunk.toString()))
  t.same(await once(child, 'close'), [4, null])
  t.equal(out!.join(''), '')
  t.match(err!.join(''), /^postern-gateway: \S+agents\.sock: no gateway runs here \(.*ENOENT.*\)\n$/)
  t.match(await ended(t, `'${process.execPath}' '${GATEWAY}' pipe --run-dir '${dir}'`), /^the command of the pipe ended \(exit code 4\): postern-gateway: \S+: no gateway runs here/)
})

t.test('what a command says as it fails is told, in one line and bounded', async (t) => {
  t.match(await ended(t, 'no-such-command-here'), /^the command of the pipe ended \(exit code 127\): .*not found$/)
  t.equal(await ended(t, 'printf "first\\033[31m\\nsecond\\n" >&2; exit 3'), 'the command of the pipe ended (exit code 3): first [31m second')
  const much = await ended(t, 'head -c 1000000 /dev/zero | tr "\\0" x >&2; echo why >&2; kill -9 $$')
  t.ok(much.length < 1_200 && much.startsWith('the command of the pipe ended (SIGKILL): xxx') && much.endsWith('xwhy'), `${String(much.length)} characters`)
  t.match(await ended(t, ''), /^unreachable: the command of the pipe does not run: /)
  t.match(await ended(t, 'a\0b'), /^unreachable: the command of the pipe does not run: /)
  t.match(await ended(t, `unix:${folder(t)}/none`), /^unreachable: \S+none: connect ENOENT/)
})

t.test('a command ends with its channel, and all that it started with it, whatever it thinks of that', async (t) => {
  const file = join(folder(t), 'ids')
  const nested = `sh -c 'echo $$ >> ${file}; sleep 1000' & echo $$ >> ${file}; sleep 1000`
  for (const command of [nested, `trap "" TERM; ${nested}`]) {
    rmSync(file, { force: true })
    const carrier = (await dialed(t, command)) as Carrier
    const closed = new Promise((resolve) => (carrier.onClosed = resolve))
    const ids = await idsIn(file, 2)
    carrier.abort()
    await closed
    await until('none is left', () => !ids.some(isAlive))
  }
  // One that ends before what it started.
  rmSync(file, { force: true })
  t.match(await ended(t, `sleep 1000 & echo $! > ${file}; exit 5`), /exit code 5/)
  await until('none is left', () => !readFileSync(file, 'utf8').trim().split('\n').some(isAlive))
})

t.test('a command whose input has ended and that does not end by itself is told to', async (t) => {
  const file = join(folder(t), 'ids')
  const carrier = (await dialed(t, `echo $$ >> ${file}; exec sleep 1000`)) as Carrier
  const closed = new Promise((resolve) => (carrier.onClosed = resolve))
  const ids = await idsIn(file, 1)
  carrier.close()
  t.match(await closed, /SIGTERM/)
  await until('it is gone', () => !ids.some(isAlive))
})

t.test('a dial that is given up, and a process that ends, leave no command behind', async (t) => {
  const file = join(folder(t), 'ids')
  let told = 0
  dialPipe({ gateway: 'http://127.0.0.1:1', userAgent: 'test', pipe: `echo $$ >> ${file}; sleep 1000` }, () => told++)()
  const code = `import { dialPipe } from '${join(import.meta.dirname, '../../agent/pipe.ts')}'
    dialPipe({ gateway: 'http://x', userAgent: 'x', pipe: 'echo $$ >> ${file}; echo $$ >> ${file}; sleep 1000' }, (carrier) => (carrier.onClosed = () => undefined))
    process.stdin.on('end', () => process.exit(0)).resume()`
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', code], { stdio: ['pipe', 'inherit', 'inherit'] })
  const ids = await idsIn(file, 2)
  child.stdin.end()
  t.same(await once(child, 'close'), [0, null])
  await until('none is left', () => !ids.some(isAlive))
  t.equal(told, 0)
})

t.test('where there is no room for one more command a dial says so, and leaves nothing behind', async (t) => {
  const code = `import { openSync } from 'node:fs'
    import { dialPipe } from '${join(import.meta.dirname, '../../agent/pipe.ts')}'
    try { for (;;) openSync('/dev/null') } catch {}
    const before = process.listenerCount('exit')
    const told = (outcome) => console.log(outcome.reason, process.listenerCount('exit') - before, outcome.detail)
    dialPipe({ gateway: 'http://x', userAgent: 'x', pipe: 'cat' }, told)
    dialPipe({ gateway: 'http://x', userAgent: 'x', pipe: 'cat' }, told)()`
  const child = spawn('sh', ['-c', 'ulimit -n 100; exec "$@"', 'sh', process.execPath, '--input-type=module-typescript', '-e', code], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()))
  t.same(await once(child, 'close'), [0, null])
  t.match(said, /^unreachable 0 the command of the pipe does not run: .*EMFILE\n$/)
})

t.test('through ssh a sign of life comes back, and a wrong key is told in ssh’s words', async (t) => {
  const dir = folder(t)
  const gateway = await startGateway(t)
  const port = await freePort()
  for (const key of ['host', 'user', 'other']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(dir, key)])
  // sshd refuses to start without the folder that its service would make.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true })
  writeFileSync(join(dir, 'sshd.conf'), `Port ${String(port)}
ListenAddress 127.0.0.1
HostKey ${dir}/host
PidFile none
AuthorizedKeysFile ${dir}/user.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
`)
  const sshd = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', join(dir, 'sshd.conf')], { stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => void sshd.kill())
  let log = ''
  sshd.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  await until('sshd listens', () => log.includes('Server listening'), { logs: () => log })
  const options = `-F none -p ${String(port)} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=${dir}/known -o BatchMode=yes -o LogLevel=ERROR`
  const command = (key: string): string => `ssh ${options} -i ${dir}/${key} ${userInfo().username}@127.0.0.1 "'${process.execPath}' '${GATEWAY}' pipe --run-dir '${gateway.runDir}'"`
  const carrier = (await dialed(t, command('user'))) as Carrier
  const failure = await new Promise((resolve) => void probe(carrier, ENVIRONMENT, PROBE_MS, resolve))
  t.equal(failure, undefined)
  t.match({ kind: carrier.kind, peer: carrier.peer }, { kind: 'pipe', peer: 'ssh' })
  t.match(await ended(t, command('other')), /^the command of the pipe ended \(exit code 255\): .*Permission denied/)
})

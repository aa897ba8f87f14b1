// `npm run demo` publishes a service through all parts, and when it ends leaves no process and no file.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { once } from 'node:events'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { type Ends, startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { visit } from '../system/visitor.ts'

const MAIN = join(import.meta.dirname, '../../dev/demo.ts')

interface Demo {
  readonly child: ChildProcess
  /** Its temporary files go here, and its processes bear it on their command lines. */
  readonly dir: string
  out(): string
  ended: Promise<number | null>
}

function startDemo(t: Ends, options: readonly string[]): Demo {
  // Not t.testdir(): the path of a unix socket has at most 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'demo-test-'))
  const child = spawn(process.execPath, [MAIN, ...options], { env: { ...process.env, TMPDIR: dir }, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (out += text))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  t.teardown(async () => {
    child.kill('SIGTERM')
    await ended
    rmSync(dir, { recursive: true, force: true })
  })
  return { child, dir, out: () => out, ended }
}

async function ready(demo: Demo): Promise<void> {
  await until('the demo is ready', () => /^ready /m.test(demo.out()) || demo.child.exitCode !== null, { logs: demo.out, timeoutMs: 40_000 })
  if (demo.child.exitCode !== null) throw new Error(`the demo ended early:\n${demo.out()}`)
}

function processesOf(demo: Demo): number[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8').includes(demo.dir) || readFileSync(`/proc/${String(pid)}/environ`, 'utf8').includes(demo.dir)
    } catch {
      return false
    }
  })
}

function killGateway(demo: Demo): void {
  const pid = processesOf(demo).find((each) => readFileSync(`/proc/${String(each)}/cmdline`, 'utf8').includes('sidecar/main.ts'))
  if (pid === undefined) throw new Error(`no gateway among the demo's processes:\n${demo.out()}`)
  process.kill(pid, 'SIGKILL')
}

t.test('the demo publishes its sample service, and Ctrl-C leaves no process and no file', async (t) => {
  const port = await freePort()
  const demo = startDemo(t, ['--port', String(port)])
  await ready(demo)
  const page = await visit({ port, host: `demo.localhost:${String(port)}` })
  t.equal(page.status, 200)
  t.match(page.body.toString(), /This page came through Postern/)
  t.match(page.body.toString(), new RegExp(`Host: demo\\.localhost:${String(port)}`, 'i'), 'the service sees the public name')
  t.equal((await visit({ port, host: 'nobody.localhost' })).status, 404)
  t.ok(processesOf(demo).length >= 4, 'gateway, agent, nginx with its workers')
  const events = http.get({ port, host: '127.0.0.1', path: '/events', headers: { host: 'demo.localhost' }, agent: false })
  events.on('error', () => undefined)
  await once(events, 'response')
  demo.child.kill('SIGINT')
  t.equal(await demo.ended, 0)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

t.test('the demo publishes an origin of one\'s own under a name of one\'s own', async (t) => {
  const origin = await startOrigin(t)
  const port = await freePort()
  const demo = startDemo(t, ['--port', String(port), '--origin', origin.url, '--host', 'mine.localhost'])
  await ready(demo)
  const answer = await visit({ port, host: 'mine.localhost', path: '/some/path?q' })
  t.same([answer.status, answer.body.toString()], [200, 'GET /some/path?q\n'])
  demo.child.kill('SIGTERM')
  t.equal(await demo.ended, 0)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

t.test('when a part dies the demo shows it, ends with 1 and leaves nothing', async (t) => {
  const demo = startDemo(t, ['--port', String(await freePort())])
  await ready(demo)
  killGateway(demo)
  t.equal(await demo.ended, 1)
  t.match(demo.out(), /gateway ended by itself \(SIGKILL\)/)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

t.test('when nobody reads any more the demo ends and leaves nothing', async (t) => {
  const demo = startDemo(t, ['--port', String(await freePort())])
  await ready(demo)
  demo.child.stdout?.destroy()
  demo.child.stderr?.destroy()
  // What the gateway's death makes the demo say finds no reader.
  killGateway(demo)
  t.equal(await demo.ended, 1)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

t.test('the demo says what is wrong with its options and exits with 2', async (t) => {
  for (const [options, says] of [[['--loud'], /'--loud'[^]*usage: npm run demo/], [['--host', 'a b'], /--host takes/], [['--port', String(await freePort()), '--origin', 'ftp://here'], /only http and https/], [['--port', '0'], /--port takes/], [['--origin', 'nonsense'], /--origin takes a URL/]] as const) {
    const demo = startDemo(t, options)
    t.equal(await demo.ended, 2)
    t.match(demo.out(), says)
    t.same(readdirSync(demo.dir), [])
  }
})

t.test('the demo says so when its port is taken', async (t) => {
  const origin = await startOrigin(t)
  const demo = startDemo(t, ['--port', String(origin.port)])
  t.equal(await demo.ended, 1)
  t.match(demo.out(), new RegExp(`something listens on port ${String(origin.port)} already`))
})

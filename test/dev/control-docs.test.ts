// The commands at the beginning of docs/control.md do what it says they do: two agents share a service under a policy, in ten commands or fewer.
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import t from 'tap'
import { prepareEdge } from '../../dev/edge.ts'
import { freePort } from '../../dev/free-port.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { visit } from '../system/visitor.ts'

const ROOT = join(import.meta.dirname, '../..')
const asRoot = process.getuid?.() === 0
const SECTION = /## From nothing to two agents.*?\n(?=## )/s

t.test('the docs', async (t) => {
  // Not t.testdir(): the path of a unix socket has 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'postern-docs-'))
  // As on a machine of one's own, nginx's workers are not root: what the commands leave is enough for them.
  chmodSync(dir, 0o755)
  const runDir = join(dir, 'run')
  const bin = join(dir, 'bin')
  mkdirSync(bin)
  for (const [name, main] of [['postern', 'agent/main.ts'], ['postern-gateway', 'sidecar/main.ts']] as const) {
    writeFileSync(join(bin, name), `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, main)}' "$@"\n`, { mode: 0o755 })
  }
  // The package has nginx's module; in a clone it is to be compiled first.
  await prepareEdge(join(dir, 'compiled'), runDir)
  const origin = await startOrigin(t)
  const port = await freePort()
  const section = SECTION.exec(readFileSync(join(ROOT, 'docs/control.md'), 'utf8'))![0]
  const commands = [...section.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block]) => block!.trim().split('\n'))
  t.ok(commands.length <= 10, `${String(commands.length)} commands`)
  const env = {
    ...process.env, PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}`, POSTERN_RUN_DIR: runDir, POSTERN_STATE_DIR: join(dir, 'state'), XDG_STATE_HOME: dir, XDG_RUNTIME_DIR: dir,
  }
  const running = new Set<ReturnType<typeof spawn>>()
  t.teardown(async () => {
    const ends = [...running].map((child) => new Promise((resolve) => child.once('close', resolve)))
    for (const child of running) child.kill('SIGTERM')
    await Promise.all(ends)
    rmSync(dir, { recursive: true, force: true })
  })
  let mask = ''
  const run = async (command: string): Promise<string> => {
    const here = command.replace(asRoot ? '' : ' --socket-group www-data', '').replace('/etc/nginx/postern', join(dir, 'edge')).replace('https://edge.example.com', `http://127.0.0.1:${String(port)}`).replace('http 3000', `http ${String(origin.port)}`)
    const stays = here.endsWith('&')
    const child = spawn('sh', ['-c', `${mask}${stays ? `${here.slice(0, -1).replace(/^((?:[A-Z_]+=\S+ )*)/, '$1exec ')}` : here}`], { cwd: dir, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => (said += part.toString()))
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    if (!stays) {
      const code = await ended
      t.equal(code, 0, `${command}: ${said}`)
      return said
    }
    running.add(child)
    void ended.then(() => running.delete(child))
    await until(command, () => /"event":"(?:ready|serving)"/.test(said), { logs: () => said })
    return said
  }

  let said = ''
  for (const command of commands) {
    if (command === 'nginx -t && nginx -s reload') await startNginx(t, { runDir, port, ...(asRoot ? { user: 'www-data' } : {}) })
    else if (command.startsWith('umask ')) mask = `${command}; `
    else said = await run(command)
    t.notMatch(said, /"event":"warning"/)
  }
  t.match(said, /^\S+ +web-1 .*\n\S+ +web-2 /m)
  t.match(await run('postern-gateway history list'), /service_changed +services\/shop +owner/)
  t.equal((await visit({ port, host: 'shop.example.com' })).status, 200)
  t.equal((await visit({ port, host: 'shop.example.com', method: 'DELETE' })).status, 405, 'the policy is in force')
})

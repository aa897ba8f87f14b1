// The npm package holds all that the agent needs: unpacked where there is no registry, it runs and serves.
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { runAgent } from '../harness/agent.ts'
import { startOrigin } from '../harness/origin.ts'
import { startGate } from './gate.ts'

const run = promisify(execFile)
const ROOT = join(import.meta.dirname, '../..')
/** No registry: whatever asks for one fails. */
const OFFLINE = { ...process.env, npm_config_offline: 'true', npm_config_registry: 'http://127.0.0.1:1', npm_config_audit: 'false', npm_config_fund: 'false', npm_config_update_notifier: 'false' }

/** Packs the sources as they are, without touching the repository's own dist/. */
async function pack(folder: string): Promise<string> {
  const staging = join(folder, 'staging')
  mkdirSync(staging)
  for (const file of ['package.json', 'README.md']) cpSync(join(ROOT, file), join(staging, file))
  symlinkSync(join(ROOT, 'node_modules'), join(staging, 'node_modules'))
  await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', join(ROOT, 'tsconfig.build.json'), '--outDir', join(staging, 'dist')])
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: staging, env: OFFLINE })
  const name = readdirSync(folder).find((each) => each.endsWith('.tgz'))
  if (name === undefined) throw new Error('npm pack made no tarball')
  return join(folder, name)
}

t.test('the tarball serves without a registry, unpacked or installed', async (t) => {
  // Not in the repository, whose node_modules would be found from there.
  const folder = mkdtempSync(join(tmpdir(), 'postern-package-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const tarball = await pack(folder)

  const bare = join(folder, 'bare')
  mkdirSync(bare)
  await run('tar', ['xzf', tarball, '-C', bare])
  const main = join(bare, 'package/dist/agent/main.js')
  const version = await runAgent(t, ['--version'], { main, ready: false })
  t.equal(await version.exited, 0)
  t.match(version.logs(), /^\d+\.\d+\.\d+\n$/)

  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const agent = await runAgent(t, ['http', String(origin.port)], { main, join: gate.join })
  t.equal((await gate.answered(gate.visit('demo', '/packed'))).text, 'GET /packed\n')
  agent.signal('SIGTERM')
  t.equal(await agent.exited, 0)

  const installed = join(folder, 'installed')
  mkdirSync(installed)
  writeFileSync(join(installed, 'package.json'), '{"private":true}')
  await run('npm', ['install', '--offline', '--ignore-scripts', tarball], { cwd: installed, env: OFFLINE })
  const { stdout } = await run(process.execPath, [join(installed, 'node_modules/postern/dist/agent/main.js'), '--version'])
  t.match(stdout, /^\d+\.\d+\.\d+\n$/)
})

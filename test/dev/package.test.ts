// The npm package holds all that both commands need: unpacked where there is no registry, they run and serve.
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { prepareEdge } from '../../dev/edge.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { HOST, visit } from '../system/visitor.ts'

const run = promisify(execFile)
const ROOT = join(import.meta.dirname, '../..')
/** No registry: whatever asks for one fails. */
const OFFLINE = { ...process.env, npm_config_offline: 'true', npm_config_registry: 'http://127.0.0.1:1', npm_config_audit: 'false', npm_config_fund: 'false', npm_config_update_notifier: 'false' }

/** Packs the sources as they are, without touching the repository's own dist/. */
async function pack(folder: string): Promise<string> {
  const staging = join(folder, 'staging')
  mkdirSync(staging)
  for (const name of ['package.json', 'README.md', 'docs', 'nginx']) cpSync(join(ROOT, name), join(staging, name), { recursive: true })
  // Only what ships: npm does not look behind links for what is to be bundled.
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as { packages: Record<string, { dev?: boolean }> }
  for (const [path, { dev }] of Object.entries(packages)) if (path !== '' && dev !== true) cpSync(join(ROOT, path), join(staging, path), { recursive: true })
  await run(process.execPath, [join(ROOT, 'dev/build.ts'), join(staging, 'dist')])
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: staging, env: OFFLINE })
  const name = readdirSync(folder).find((each) => each.endsWith('.tgz'))
  if (name === undefined) throw new Error('npm pack made no tarball')
  return join(folder, name)
}

/** A service published with the commands of the package in `folder`, and asked once. */
async function publish(t: Test, folder: string): Promise<string> {
  const origin = await startOrigin(t)
  const gateway = await startGateway(t, { main: join(folder, 'dist/sidecar/main.js') })
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const word = await gateway.addAgent('agent-1', 'app', HOST, nginx.url)
  const agent = await runAgent(t, ['http', String(origin.port)], { main: join(folder, 'dist/agent/main.js'), join: word })
  // The agent knows what it may serve a moment before the gateway knows that it does.
  const answer = await until('it is served', async () => {
    const one = await visit({ port: nginx.port, path: '/packed' })
    return one.status === 200 && one
  }, { logs: () => gateway.logs() + agent.logs() })
  await agent.stop()
  await gateway.stop()
  return answer.body.toString()
}

t.test('the unpacked tarball serves without a registry', async (t) => {
  // Not in the repository, whose node_modules would be found from there.
  const folder = mkdtempSync(join(tmpdir(), 'postern-package-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const tarball = await pack(folder)

  await run('tar', ['xzf', tarball, '-C', folder])
  const unpacked = join(folder, 'package')
  const { version, bin } = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8')) as { version: string; bin: Record<string, string> }
  t.same(Object.keys(bin), ['postern', 'postern-gateway'])
  for (const main of Object.values(bin)) t.equal((await run(join(unpacked, main), ['--version'])).stdout, `${version}\n`)
  t.equal(await publish(t, unpacked), 'GET /packed\n')

  const out = join(folder, 'edge')
  await run(join(unpacked, 'dist/sidecar/main.js'), ['nginx', '--out', out, '--run-dir', '/run/elsewhere'])
  const written = Object.fromEntries(readdirSync(out).map((name) => [name, readFileSync(join(out, name), 'utf8')]))
  await prepareEdge(out, '/run/elsewhere')
  t.same(written, Object.fromEntries(readdirSync(out).map((name) => [name, readFileSync(join(out, name), 'utf8')])), 'the package writes the files that the tests use')
})

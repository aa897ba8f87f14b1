// `postern-gateway nginx --out`: files that nginx takes as they are, with the places written into them, and paths that can't be written refused.
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { prepareEdge } from '../../dev/edge.ts'
import { checkConfiguration } from '../harness/nginx.ts'
import { startGateway } from '../harness/gateway.ts'

const MAIN = join(import.meta.dirname, '../../sidecar/main.ts')
const exec = promisify(execFile)
// The module that the command copies is built, not kept.
await prepareEdge(t.testdir(), '/run/postern')

t.test('nginx -t takes a site that includes them, and a gateway publishes where they look', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'postern-files-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const gateway = await startGateway(t)
  const edge = join(dir, 'etc/postern')
  const { stdout } = await exec(process.execPath, [MAIN, 'nginx', '--out', edge, '--run-dir', gateway.runDir])
  const names = stdout.trim().split('\n')
  t.same(names.sort(), readdirSync(edge).sort())
  for (const name of ['postern-http.conf', 'postern-server.conf', 'postern-agents.conf', 'postern.js']) t.ok(names.includes(name), name)
  const written = names.map((name) => readFileSync(join(edge, name), 'utf8')).join('')
  t.notMatch(written, /\/run\/postern|\/etc\/nginx\/postern/, 'no other place is left in them')
  for (const place of ['ingress.sock', 'ingress-h2.sock', 'agents.sock', 'routes/']) t.ok(written.includes(join(gateway.runDir, place)), place)
  t.same([...new Set(readdirSync(gateway.runDir))].sort(), ['agents.sock', 'control.sock', 'ingress-h2.sock', 'ingress.sock', 'routes'])
  writeFileSync(join(dir, 'nginx.conf'), `pid ${dir}/pid;
events {}
http {
  include ${edge}/postern-http.conf;
  server { listen 127.0.0.1:8; include ${edge}/postern-server.conf; location / { try_files "" $postern_location; } }
  server { listen 127.0.0.1:9; include ${edge}/postern-agents.conf; }
}
`)
  t.match(await checkConfiguration('debian', dir, join(dir, 'nginx.conf')), /test is successful/)
})

t.test('a path that nginx would read otherwise is refused by name, and nothing is written', async (t) => {
  for (const [out, runDir] of [['/tmp/a b', '/run/x'], ['/tmp/a;b', '/run/x'], ['/tmp/postern-out', '/run/$x'], ['/tmp/postern-out', '/run/"']] as const) {
    await t.rejects(exec(process.execPath, [MAIN, 'nginx', '--out', out, '--run-dir', runDir]), { code: 2, stderr: /nginx's files take only paths of/ }, `${out} ${runDir}`)
  }
})

// The example site and the includes are accepted by nginx as they ship, on every nginx that can be had.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { prepareEdge } from '../../dev/edge.ts'
import { type Binary, checkConfiguration, missing, startNginx } from '../harness/nginx.ts'
import { get, startStand } from './stand.ts'

const NGINX = join(import.meta.dirname, '../../nginx')

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`nginx ${binary} takes the example site`, { skip: missing(binary) ?? false }, async (t) => {
    // Not t.testdir(): the path of a unix socket has at most 107 bytes.
    const dir = mkdtempSync(join(tmpdir(), 'postern-site-'))
    t.teardown(() => rmSync(dir, { recursive: true, force: true }))
    for (const folder of ['tls', 'edge', 'log']) mkdirSync(join(dir, folder))
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=demo.test',
      '-keyout', join(dir, 'tls/postern.key'), '-out', join(dir, 'tls/postern.pem')], { stdio: 'ignore' })
    await prepareEdge(join(dir, 'edge'), join(dir, 'run'))
    for (const folder of ['body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']) mkdirSync(join(dir, folder))
    // Only places that a test may not write to, ports it may not take, and the user and module of this machine are others.
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${dir}/${kind};`).join(' ')
    const text = readFileSync(join(NGINX, 'example-site.conf'), 'utf8')
      .replace(/^load_module .*$/m, '').replace(/^user .*$/m, '').replaceAll('/etc/nginx/postern', join(dir, 'edge')).replaceAll('/etc/nginx/tls', join(dir, 'tls'))
      .replaceAll('/var/log/nginx', join(dir, 'log')).replace('/run/nginx.pid', join(dir, 'nginx.pid')).replace('include /etc/nginx/mime.types;', temporary)
      .replace(/^ *listen \[::\].*$/gm, '').replace('listen 80 ', `listen unix:${dir}/80.sock `)
      .replace('listen 443 ssl http2 default_server so_keepalive=on', `listen unix:${dir}/443.sock ssl http2 default_server`)
    writeFileSync(join(dir, 'site.conf'), text)
    const said = await checkConfiguration(binary, dir, join(dir, 'site.conf'))
    t.match(said, 'test is successful')
    const warnings = said.split('\n').filter((line) => line.includes('[warn]') && !line.includes('"listen ... http2" directive is deprecated'))
    t.same(warnings, [], 'nothing to warn of')
  })
}

t.test('the include for newer versions is taken by them', { skip: missing('new') ?? false }, async (t) => {
  const stand = await startStand(t)
  stand.route('demo.test', '1 up h1 demo -\n')
  const nginx = await startNginx(t, { runDir: stand.runDir, binary: 'new', server: 'include EDGE/postern-server.conf; include EDGE/postern-modern.conf; location / { try_files "" @postern; }' })
  t.equal((await get(nginx.port, 'demo.test')).status, 200)
})

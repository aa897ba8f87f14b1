// The units of sidecar/systemd under a live systemd: with all that they forbid the gateway serves, and neither a restart nor a kill costs a visitor his request.
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { runAgent } from '../harness/agent.ts'
import { startOrigin } from '../harness/origin.ts'
import { noSystemd, startSystemd } from '../harness/systemd.ts'
import { until } from '../harness/until.ts'
import { loadOrigin, startLoad } from './load.ts'
import { HOST, visit } from './visitor.ts'

t.setTimeout(300_000)

const LARGE_BYTES = 4 * 1024 * 1024
const RESTARTS = 3
/** What `systemd-analyze security` says at the most; 10 is nothing forbidden. */
const EXPOSURE_MAX = 1.5

/** As README tells it, with the commands of this tree. */
const install = (port: number): string => `
id -u postern > /dev/null 2>&1 || useradd --system --shell /usr/sbin/nologin postern
cp /opt/postern/sidecar/systemd/* /etc/systemd/system/
postern-gateway nginx --out /etc/nginx/postern
mkdir -p /etc/postern
echo 'public_url: http://127.0.0.1:${String(port)}' > /etc/postern/gateway.yaml
cat > /etc/nginx/nginx.conf <<'END'
load_module modules/ngx_http_js_module.so;
user www-data;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  include postern/postern-http.conf;
  server {
    listen 127.0.0.1:${String(port)};
    include postern/postern-server.conf;
    include postern/postern-agents.conf;
    location / { client_max_body_size 0; try_files "" $postern_location; }
  }
}
END
systemctl enable --quiet postern-gateway.service nginx.service
`

t.test('under systemd', async (t) => {
  const why = await noSystemd()
  if (why !== undefined) return void t.pass('a live systemd', { skip: why })
  const port = await freePort()
  const systemd = await startSystemd(t, install(port))
  const show = async (name: string): Promise<string> => (await systemd.run('systemctl', 'show', '--value', '-p', name, 'postern-gateway')).trim()
  if ((await show('ActiveState')) !== 'active') t.fail(await systemd.journal())
  t.equal(Number(await show('NRestarts')), 0, 'it starts at the first try')

  const security = await systemd.run('systemd-analyze', 'security', '--no-pager', 'postern-gateway.service')
  t.ok(Number(/Overall exposure level for \S+: ([\d.]+)/.exec(security)?.[1]) <= EXPOSURE_MAX, security.split('\n').slice(-3).join('\n'))
  t.match(await systemd.run('cat', `/proc/${await show('MainPID')}/status`), /^CapEff:\t0+$/m, 'no capability')
  t.equal((await systemd.run('stat', '-c', '%U', `/proc/${await show('MainPID')}`)).trim(), 'postern')

  const origin = await startOrigin(t, loadOrigin(LARGE_BYTES))
  const joins = await systemd.run('postern-gateway', 'agents', 'add', 'agent-1', '--service', 'demo', '--host', HOST)
  const agent = await runAgent(t, ['http', origin.url], { join: joins.trim() })
  const served = async (): Promise<boolean> => (await visit({ port })).status === 200
  await until('it is served', served, { logs: () => agent.logs() })

  const load = startLoad(port, LARGE_BYTES)
  const goesOn = async (): Promise<void> => {
    const [small, large] = [load.small(), load.large()]
    await until('requests go on', () => load.small() > small + 50 && load.large() > large + 1, { timeoutMs: 60_000, logs: () => `${load.failures.join('\n')}\n${agent.logs()}` })
  }
  await goesOn()
  for (let i = 0; i < RESTARTS; i++) {
    await systemd.run('systemctl', 'restart', 'postern-gateway')
    await goesOn()
  }
  await load.stop()
  t.same(load.failures, [], 'a restart fails nothing')

  const pid = await show('MainPID')
  await systemd.run('systemctl', 'kill', '--signal=KILL', 'postern-gateway')
  const waited = await visit({ port })
  t.equal(waited.status, 200, 'who comes while there is none waits for the next')
  t.not(await show('MainPID'), pid)
  t.equal(await show('ActiveState'), 'active')

  await systemd.run('systemctl', 'stop', 'postern-gateway')
  t.match(await systemd.run('postern-gateway', 'agents', 'list'), /agent-1/, 'a command that finds none running starts it')
  t.equal(await show('ActiveState'), 'active')
})

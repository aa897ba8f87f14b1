// The example for nginx's stream module, as it ships: agents come through where TLS ends at nginx, and where it passes through beside a site on the same port.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import tls from 'node:tls'
import type { Dial } from '../../agent/channel-dial.ts'
import { processEnvironment } from '../../agent/environment.ts'
import { dialHttp2 } from '../../agent/http2.ts'
import { dialLongPoll } from '../../agent/long-poll.ts'
import { dialSse } from '../../agent/sse.ts'
import { dialTcp } from '../../agent/tcp.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import { freePort } from '../../dev/free-port.ts'
import { probe } from '../../protocol/probe.ts'
import { CERTIFICATE, KEY } from '../agent/certificate.ts'
import { startGateway } from '../harness/gateway.ts'
import { missing, modulePath, startNginx } from '../harness/nginx.ts'

tls.setDefaultCACertificates([...tls.getCACertificates('default'), CERTIFICATE])

const EXAMPLE = join(import.meta.dirname, '../../nginx/example-stream.conf')
const DIALS: readonly Dial[] = [dialWebsocket, dialHttp2, dialTcp, dialSse, dialLongPoll]
const TIMES = { heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 }
const PROBE_MS = 10_000

/** The kind of the channel over which a sign of life came back, or why there is none. */
function reach(t: Test, dial: Dial, port: number): Promise<string> {
  return new Promise((resolve) => {
    dial({ gateway: `tls://localhost:${String(port)}`, userAgent: 'test' }, (outcome) => {
      if ('reason' in outcome) return resolve(`${outcome.reason}: ${outcome.detail}`)
      t.teardown(() => outcome.abort())
      probe(outcome, processEnvironment(TIMES), PROBE_MS, (failure) => resolve(failure ?? outcome.kind))
    })
  })
}

for (const binary of ['debian', 'new'] as const) {
  const stream = await modulePath(binary, 'ngx_stream_module.so')
  t.test(`nginx ${binary}: every channel comes through either way`, { skip: missing(binary) ?? (existsSync(stream) ? false : 'no stream module here: libnginx-mod-stream') }, async (t) => {
    const dir = t.testdir({ 'postern.pem': CERTIFICATE, 'postern.key': KEY })
    // Only the ports, which a test may not choose, and the places of the files are others.
    const ports = new Map<string, number>()
    for (const port of ['8442', '8443', '8444', '8445', '8446']) ports.set(port, await freePort())
    const main = readFileSync(EXAMPLE, 'utf8').replace(/^ *listen \[::\].*$/gm, '').replaceAll('/etc/nginx/tls', dir)
      .replace(/(listen |127\.0\.0\.1:)(844\d)/g, (_all, before: string, port: string) => `${before === 'listen ' ? 'listen 127.0.0.1:' : before}${String(ports.get(port))}`)
    const gateway = await startGateway(t, {
      settings: {
        agents_address: `127.0.0.1:${String(ports.get('8442'))}`,
        agents_tls_address: `127.0.0.1:${String(ports.get('8444'))}`,
        agents_tls_cert: join(dir, 'postern.pem'),
        agents_tls_key: join(dir, 'postern.key'),
      },
    })
    const site = `listen 127.0.0.1:${String(ports.get('8445'))} ssl${binary === 'new' ? '; http2 on' : ' http2'}; ssl_certificate ${dir}/postern.pem; ssl_certificate_key ${dir}/postern.key;`
    await startNginx(t, { runDir: gateway.runDir, binary, main, modules: [stream], http: `server { ${site} include EDGE/postern-agents.conf; }` })
    const kinds = ['websocket', 'http2', 'tcp', 'sse', 'long-poll']
    for (const port of ['8443', '8446']) for (const [i, dial] of DIALS.entries()) t.equal(await reach(t, dial, ports.get(port)!), kinds[i], port)
  })
}

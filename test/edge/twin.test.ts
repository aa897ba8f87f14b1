// The two that refuse, njs in nginx and the gateway, say the same bytes for the same code, visitor's language and command uuid.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type ErrorCode, errors } from '../../protocol/errors.ts'
import { policyFile } from '../../sidecar/policy-file.ts'
import { refuse } from '../../sidecar/refusal.ts'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { until } from '../harness/until.ts'
import { get, startStand } from './stand.ts'

const ACCEPTS: readonly (readonly string[])[] = [
  [], ['*/*'], [''], ['text/plain'], ['text/html'], ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'], ['application/json'], ['Application/JSON'], ['application/problem+json'],
  ['application/ld+json; q=0.1, text/html'], ['text/html, application/json'], ['application/json, text/html'], ['image/png'], ['application/jsonp'], ['text/html', 'application/json'], ['application/json', 'text/html'],
]
const BIG = `X: ${'x'.repeat(70_000)}`
/** What is asked for, with which of nginx's own refusals it is answered. */
const ASKED: readonly (readonly [string, string, ErrorCode])[] = [
  ['[::1]', 'A: b', errors.bad_request], ['unknown.test', 'A: b', errors.no_service], ['away.test', 'A: b', errors.service_away], ['broken.test', 'A: b', errors.no_route_table], ['up.test', 'A: b', errors.gateway_away],
  ['up.test', BIG, errors.head_too_large], ['off.test', 'A: b', errors.service_off], ['unhealthy.test', 'A: b', errors.origin_unhealthy], ['denied.test', 'A: b', errors.source_denied],
]
/** What `return` in nginx, or every connection of nginx's, adds. */
const OF_NGINX = /^(?:server|date|connection|content-length): /i

function fieldsOf(lines: readonly string[]): string[] {
  return lines.filter((line) => !OF_NGINX.test(line)).map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase())).sort()
}

async function compare(t: Test, port: number, host: string, line: string, code: ErrorCode): Promise<void> {
  for (const accept of ACCEPTS) {
    const reply = await get(port, host, '/', [...accept.map((value) => `Accept: ${value}`), line])
    const uuid = /uuid[": ]+([0-9a-f]{32})/.exec(reply.body)?.[1] ?? 'none'
    const { fields, body } = refuse(code, accept.join(', '), uuid)
    const name = `${code.name}, Accept: ${accept.join(' and ')}`
    t.equal(reply.body, body.toString('latin1'), name)
    const [status, ...lines] = reply.fields.split('\r\n')
    t.equal(status!.split(' ')[1], fields[1], name)
    t.same(fieldsOf(lines), fieldsOf(fields.flatMap((field, i) => (i >= 2 && i % 2 === 0 ? [`${field}: ${fields[i + 1]!}`] : []))), name)
  }
}

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`on nginx ${binary} a refusal is the gateway's, byte for byte`, { skip: missing(binary) ?? false }, async (t) => {
    const stand = await startStand(t, { sockets: false })
    stand.route('away.test', '1 away h1 away -\n')
    stand.route('broken.test', '?\n')
    stand.route('up.test', '1 up h1 up -\n')
    for (const state of ['off', 'unhealthy']) stand.route(`${state}.test`, `1 ${state} h1 it -\n`)
    stand.route('@policy-denied', policyFile('denied', { sources: { allow: [] } })!)
    stand.route('denied.test', '1 up h1 denied y\n')
    const server = `large_client_header_buffers 4 64k; error_page 494 =431 @postern_refuse; include EDGE/postern-server.conf; location / { try_files "" @postern; }`
    const nginx = await startNginx(t, { runDir: stand.runDir, binary, server, expected: [/connect\(\) to unix:.* failed/] })
    for (const [host, line, code] of ASKED) await compare(t, nginx.port, host, line, code)
  })

  t.test(`on nginx ${binary} so it is of a gateway that is silent`, { skip: missing(binary) ?? false }, async (t) => {
    const stand = await startStand(t, { answer: () => undefined })
    stand.route('up.test', '1 up h1 up -\n')
    const nginx = await startNginx(t, { runDir: stand.runDir, binary, expected: [/upstream timed out/] })
    const file = join(nginx.dir, 'edge/postern-server.conf')
    writeFileSync(file, readFileSync(file, 'utf8').replace('proxy_read_timeout 1d', 'proxy_read_timeout 20ms'))
    await nginx.reload()
    // An old worker would still take a connection, with the old timeout.
    await until('the old worker to leave', () => /worker process \d+ exited with code 0/.test(nginx.logs()), { logs: nginx.logs })
    await compare(t, nginx.port, 'up.test', 'A: b', errors.gateway_slow)
  })
}

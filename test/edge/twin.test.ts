// The two that refuse, njs in nginx and the gateway, say the same bytes for the same code, visitor's language and command uuid.
import t from 'tap'
import { type ErrorCode, errors } from '../../protocol/errors.ts'
import { refuse } from '../../sidecar/refusal.ts'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { get, startStand } from './stand.ts'

const ACCEPTS: readonly (readonly string[])[] = [
  [], ['*/*'], [''], ['text/plain'], ['text/html'], ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'], ['application/json'], ['Application/JSON'], ['application/problem+json'],
  ['application/ld+json; q=0.1, text/html'], ['text/html, application/json'], ['application/json, text/html'], ['image/png'], ['application/jsonp'], ['text/html', 'application/json'], ['application/json', 'text/html'],
]
const BIG = `X: ${'x'.repeat(70_000)}`
/** What is asked for, with which of nginx's own refusals it is answered. */
const ASKED: readonly (readonly [string, string, ErrorCode])[] = [
  ['[::1]', 'A: b', errors.bad_request], ['unknown.test', 'A: b', errors.no_service], ['away.test', 'A: b', errors.service_away], ['broken.test', 'A: b', errors.no_route_table], ['up.test', 'A: b', errors.gateway_away],
  ['up.test', BIG, errors.head_too_large],
]
/** What `return` in nginx, or every connection of nginx's, adds. */
const OF_NGINX = /^(?:server|date|connection|content-length): /i

function fieldsOf(lines: readonly string[]): string[] {
  return lines.filter((line) => !OF_NGINX.test(line)).map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase())).sort()
}

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`on nginx ${binary} a refusal is the gateway's, byte for byte`, { skip: missing(binary) ?? false }, async (t) => {
    const stand = await startStand(t, { sockets: false })
    stand.route('away.test', '1 away h1 away -\n')
    stand.route('broken.test', '?\n')
    stand.route('up.test', '1 up h1 up -\n')
    const server = `large_client_header_buffers 4 64k; error_page 494 =431 @postern_refuse; include EDGE/postern-server.conf; location / { try_files "" @postern; }`
    const nginx = await startNginx(t, { runDir: stand.runDir, binary, server, expected: [/connect\(\) to unix:.* failed/] })
    for (const [host, line, code] of ASKED) {
      for (const accept of ACCEPTS) {
        const reply = await get(nginx.port, host, '/', [...accept.map((value) => `Accept: ${value}`), line])
        const uuid = /uuid[": ]+([0-9a-f]{32})/.exec(reply.body)?.[1] ?? 'none'
        const { fields, body } = refuse(code, accept.join(', '), uuid)
        const name = `${code.name}, Accept: ${accept.join(' and ')}`
        t.equal(reply.body, body.toString('latin1'), name)
        const [status, ...lines] = reply.fields.split('\r\n')
        t.equal(status!.split(' ')[1], fields[1], name)
        t.same(fieldsOf(lines), fieldsOf(fields.flatMap((field, i) => (i >= 2 && i % 2 === 0 ? [`${field}: ${fields[i + 1]!}`] : []))), name)
      }
    }
  })
}

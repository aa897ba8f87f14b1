// What nginx itself answers: in the visitor's language, with code and uuid, before any body, after nginx's own access control.
import http2 from 'node:http2'
import net from 'node:net'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { until } from '../harness/until.ts'
import { get, raw, startStand } from './stand.ts'

const LOCATION = 'location / { client_max_body_size 0; try_files "" @postern; }'
const GONE = /(connect\(\) to unix:.* failed|upstream prematurely closed)/

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    await t.test('speaks the visitor’s language', async (t) => {
      const stand = await startStand(t)
      const nginx = await startNginx(t, { runDir: stand.runDir, binary })
      const answers: readonly (readonly [string, string])[] = [
        ['', 'text/plain; charset=utf-8'],
        ['Accept: */*', 'text/plain; charset=utf-8'],
        ['Accept: image/png', 'text/plain; charset=utf-8'],
        ['Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', 'text/html; charset=utf-8'],
        ['Accept: text/html, application/json', 'text/html; charset=utf-8'],
        ['Accept: application/json', 'application/problem+json'],
        ['Accept: application/problem+json, text/html', 'application/problem+json'],
        ['Accept: application/vnd.api+json', 'application/problem+json'],
        ['ACCEPT: APPLICATION/JSON', 'application/problem+json'],
      ]
      for (const [accept, type] of answers) {
        const reply = await get(nginx.port, 'unknown.test', '/', accept === '' ? [] : [accept])
        t.equal(reply.status, 404, accept)
        t.match(reply.fields.toLowerCase(), `\r\ncontent-type: ${type}\r\n`, accept)
        t.match(reply.body, /no_service/)
        t.match(reply.body, /uuid[^0-9a-f]+[0-9a-f]{32}/)
        t.match(reply.fields, /\r\nProxy-Status: postern; error=destination_not_found; details="no_service"/)
        t.match(reply.fields, /\r\nCache-Control: no-store/)
        t.notMatch(reply.fields, /Retry-After/i)
        t.match(reply.fields, new RegExp(`\r\nContent-Length: ${String(Buffer.byteLength(reply.body, 'latin1'))}`))
      }
      const { body } = await get(nginx.port, 'unknown.test', '/', ['Accept: application/json'])
      t.match(JSON.parse(body), { type: 'about:blank', title: 'Not Found', status: 404, detail: errors.no_service.says, code: 'no_service', uuid: /^[0-9a-f]{32}$/ })
    })

    await t.test('its rows are those of the error table', async (t) => {
      const stand = await startStand(t, { sockets: false })
      stand.route('away.test', '1 away h1 away -\n')
      stand.route('up.test', '1 up h1 up -\n')
      stand.route('large.test', '1 up h2 large -\n')
      stand.route('bad.test', 'x\n')
      const server = `large_client_header_buffers 4 64k; error_page 494 =431 @postern_refuse; include EDGE/postern-server.conf; ${LOCATION}`
      const nginx = await startNginx(t, { runDir: stand.runDir, binary, server, expected: [GONE] })
      const asked: readonly (readonly [string, string, string])[] = [
        ['unknown.test', '', 'no_service'],
        ['away.test', '', 'service_away'],
        ['bad.test', '', 'no_route_table'],
        ['bad host', '', 'bad_request'],
        ['up.test', '', 'gateway_away'],
        ['large.test', '', 'gateway_away'],
        ['up.test', `X: ${'x'.repeat(70_000)}`, 'head_too_large'],
        ['unknown.test', `X: ${'x'.repeat(70_000)}`, 'head_too_large'],
      ]
      for (const [host, line, name] of asked) {
        const row = errors[name as keyof typeof errors]
        const reply = await get(nginx.port, host, '/', ['Accept: application/json', ...(line === '' ? [] : [line])])
        t.equal(reply.status, row.status, `${host} ${name}`)
        // A Host that nginx itself refuses never comes to us.
        if (name === 'bad_request' && reply.body.startsWith('<html>')) continue
        t.match(JSON.parse(reply.body), { status: row.status, code: name, detail: row.says }, name)
        t.match(reply.fields, `Proxy-Status: postern; error=${row.proxyStatus}; details="${name}"`)
        t.equal(/\r\nRetry-After: 5/.test(reply.fields), row.status === 503, `Retry-After with ${name}`)
      }
      const reply = await get(nginx.port, '[::1]', '/', ['Accept: application/json'])
      t.match(JSON.parse(reply.body), { status: 400, code: 'bad_request', detail: errors.bad_request.says })
    })

    await t.test('a gateway that is silent or breaks off is told from each other', async (t) => {
      const stand = await startStand(t, { answer: (request) => { if (request.url === '/breaks') request.socket.destroy() } })
      stand.route('up.test', '1 up h1 up -\n')
      const server = `include EDGE/postern-server.conf; ${LOCATION}`
      const nginx = await startNginx(t, { runDir: stand.runDir, binary, server, expected: [GONE, /upstream timed out/] })
      t.match((await get(nginx.port, 'up.test', '/breaks')).body, 'code: gateway_away')
      const file = join(nginx.dir, 'edge/postern-server.conf')
      writeFileSync(file, readFileSync(file, 'utf8').replace('proxy_read_timeout 1d', 'proxy_read_timeout 100ms'))
      await nginx.reload()
      // An old worker would still take a connection, with the old timeout.
      await until('the old worker to leave', () => /worker process \d+ exited with code 0/.test(nginx.logs()), { logs: nginx.logs })
      const { status, body } = await get(nginx.port, 'up.test', '/silent')
      t.equal(status, 504)
      t.match(body, 'code: gateway_slow')
    })

    await t.test('HEAD has the fields and no body; HTTP/2 gets the same answer', async (t) => {
      const stand = await startStand(t)
      const nginx = await startNginx(t, {
        runDir: stand.runDir,
        binary,
        http: `server { listen unix:${stand.runDir}/h2.sock http2; include EDGE/postern-server.conf; location / { try_files "" @postern; } }`,
      })
      const head = await raw(nginx.port, 'HEAD / HTTP/1.1\r\nHost: unknown.test\r\nConnection: close\r\n\r\n')
      t.equal(head.status, 404)
      t.match(head.fields, /\r\nContent-Length: [1-9]/)
      t.equal(head.body, '')
      const session = http2.connect('http://unknown.test', { createConnection: () => net.connect(join(stand.runDir, 'h2.sock')) })
      t.teardown(() => session.destroy())
      const status = await new Promise((resolve) => session.request({ ':path': '/' }).on('response', (fields) => resolve(fields[':status'])).resume())
      t.equal(status, 404)
    })

    await t.test('no refusal waits for an upload', async (t) => {
      const stand = await startStand(t)
      const nginx = await startNginx(t, { runDir: stand.runDir, binary })
      // Not one byte of the body is ever sent, and the connection stays open: only an answer that does not wait for it can come.
      for (const length of ['Content-Length: 1000000000', 'Transfer-Encoding: chunked']) {
        const answer = await new Promise<string>((resolve, reject) => {
          const socket = net.connect(nginx.port, '127.0.0.1', () => socket.write(`POST / HTTP/1.1\r\nHost: unknown.test\r\n${length}\r\n\r\n`))
          socket.on('error', reject)
          socket.once('data', (chunk) => { socket.destroy(); resolve(chunk.toString()) })
        })
        t.match(answer, 'HTTP/1.1 404 Not Found', length)
      }
    })

    await t.test('a body that breaks the rules of HTTP gets an answer of nginx’s own', async (t) => {
      const stand = await startStand(t)
      stand.route('away.test', '1 away h1 away -\n')
      const nginx = await startNginx(t, { runDir: stand.runDir, binary, expected: [/client sent invalid chunked body/] })
      for (const host of ['unknown.test', 'away.test', '[::1]']) {
        const { status, body, fields } = await raw(nginx.port, `POST / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n`)
        t.equal(status, 400, `${host}: ${fields}`)
        t.match(body, /400 Bad Request/)
      }
    })

    for (const to of ['$postern_location', '@postern'] as const) await t.test(`access control and limits of the site come first, before ${to}`, async (t) => {
      const stand = await startStand(t)
      stand.route('up.test', '1 up h1 up -\n')
      writeFileSync(join(stand.runDir, 'users'), 'me:{PLAIN}secret\n')
      const nginx = await startNginx(t, {
        runDir: stand.runDir,
        binary,
        http: 'limit_req_zone $server_port zone=few:1m rate=1r/m;',
        server: `include EDGE/postern-server.conf;
          auth_basic "all"; auth_basic_user_file ${stand.runDir}/users;
          location /denied { deny all; try_files "" ${to}; }
          location /secret { try_files "" ${to}; }
          location /open { auth_basic off; try_files "" ${to}; }
          location = /ask { internal; auth_basic off; return 403; }
          location /asked { auth_basic off; auth_request /ask; try_files "" ${to}; }
          location /limited { auth_basic off; limit_req zone=few; try_files "" ${to}; }`,
        expected: [/access forbidden by rule/, /limiting requests/, /no user\/password/],
      })
      for (const host of ['up.test', 'unknown.test']) {
        t.equal((await get(nginx.port, host, '/denied', ['Authorization: Basic bWU6c2VjcmV0'])).status, 403, host)
        t.equal((await get(nginx.port, host, '/secret')).status, 401, host)
        t.equal((await get(nginx.port, host, '/asked')).status, 403, host)
      }
      t.equal(stand.seen.length, 0)
      t.equal((await get(nginx.port, 'up.test', '/secret', ['Authorization: Basic bWU6c2VjcmV0'])).status, 200)
      t.equal((await get(nginx.port, 'up.test', '/open')).status, 200, 'what a location opens is not closed again')
      t.equal((await get(nginx.port, 'unknown.test', '/open')).status, 404)
      t.equal((await get(nginx.port, 'up.test', '/limited')).status, 200)
      t.equal((await get(nginx.port, 'unknown.test', '/limited')).status, 503)
      t.equal(stand.seen.length, 3)
    })
  })
}

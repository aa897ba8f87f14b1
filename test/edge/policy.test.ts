// A service's policy at nginx, by the file the gateway would write: who may come, how, with what, and that nothing passes without a whole policy.
import { createHash } from 'node:crypto'
import http from 'node:http'
import net from 'node:net'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import type { ServicePolicy } from '../../sidecar/policy.ts'
import { policyFile } from '../../sidecar/policy-file.ts'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { get, raw, type Reply, startStand } from './stand.ts'

const hash = (secret: string): string => createHash('sha256').update(secret).digest('hex')
const basic = (pair: string): string => `Authorization: Basic ${Buffer.from(pair).toString('base64')}`

/** A request whose body is never sent, and the answer all the same: nginx would linger on such a connection. */
function unsent(port: number, host: string, length: number): Promise<Reply> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = net.connect(port, '127.0.0.1', () => socket.write(`POST / HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${String(length)}\r\n\r\n`))
    socket.on('error', reject).on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      const end = text.indexOf('\r\n\r\n')
      if (end === -1 || text.length - end - 4 < Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1])) return
      socket.destroy()
      resolve({ status: Number(text.slice(9, 12)), fields: text.slice(0, end), body: text.slice(end + 4) })
    })
  })
}

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    const stand = await startStand(t)
    /** Publishes `NAME.test` with a policy. */
    const publish = (name: string, policy: ServicePolicy, { state = 'up', flags = 'y' } = {}): void => {
      stand.route(`@policy-${name}`, policyFile(name, policy) ?? '')
      stand.route(`${name}.test`, `1 ${state} h1 ${name} ${flags}\n`)
    }
    const nginx = await startNginx(t, {
      runDir: stand.runDir,
      binary,
      http: `server { listen unix:${stand.runDir}/visitors.sock; include EDGE/postern-server.conf; location / { try_files "" @postern; } }
        server { listen unix:${stand.runDir}/tls.sock; set_real_ip_from unix:; real_ip_header X-Real; include EDGE/postern-server.conf; location / { try_files "" @postern; } }`,
      expected: [/route table can't be read/],
    })
    const code = ({ body }: Reply): string => /^code: (.*)$/m.exec(body)?.[1] ?? body
    const field = ({ fields }: Reply, name: string): string | undefined => new RegExp(`^${name}: (.*)$`, 'im').exec(fields)?.[1]
    const refused = (reply: Reply, row: { status: number; name: string; proxyStatus: string }, name: string): void => {
      t.equal(code(reply), row.name, name)
      t.equal(field(reply, 'Proxy-Status'), `postern; error=${row.proxyStatus}; details="${row.name}"`, name)
      t.match(reply.body, /uuid: [0-9a-f]{32}/, name)
    }
    /** By a unix socket at which nginx believes what we say about the visitor's address. */
    const from = (address: string, host: string, path = '/'): Promise<number> => new Promise((resolve, reject) => {
      http.get({ socketPath: join(stand.runDir, 'tls.sock'), path, headers: { Host: host, 'X-Real': address }, agent: false }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0))
      }).on('error', reject)
    })

    await t.test('methods: HEAD goes where GET does, others are told what may be', async (t) => {
      publish('methods', { methods: ['GET', 'PATCH'] })
      t.equal((await get(nginx.port, 'methods.test')).status, 200)
      t.equal((await raw(nginx.port, 'HEAD / HTTP/1.1\r\nHost: methods.test\r\nConnection: close\r\n\r\n')).status, 200)
      const reply = await unsent(nginx.port, 'methods.test', 1_000_000_000)
      t.equal(reply.status, 405)
      t.equal(field(reply, 'Allow'), 'GET, PATCH, HEAD')
      refused(reply, errors.method_denied, 'a body that is never sent is not waited for')
    })

    await t.test('source addresses: ranges of both families, deny before allow', async (t) => {
      publish('internal', { sources: { allow: ['10.0.0.0/8', '2001:db8::/33', '192.168.7.7'], deny: ['10.1.0.0/16', '2001:db8:0:1::/64'] } })
      publish('outside', { sources: { deny: ['127.0.0.0/8'] } })
      publish('sixes', { sources: { allow: ['::/0'] } })
      publish('nobody', { sources: { allow: [] } })
      publish('many', { sources: { allow: Array.from({ length: 64 }, (_, at) => `10.0.${String(at)}.0/24`) } })
      const cases: readonly (readonly [string, string, number])[] = [
        ['10.0.0.1', 'internal', 200], ['10.255.255.255', 'internal', 200], ['11.0.0.0', 'internal', 403], ['9.255.255.255', 'internal', 403], ['10.1.2.3', 'internal', 403], ['10.2.0.0', 'internal', 200],
        ['192.168.7.7', 'internal', 200], ['192.168.7.8', 'internal', 403], ['2001:db8::1', 'internal', 200], ['2001:db8:7fff::', 'internal', 200], ['2001:db8:8000::', 'internal', 403],
        ['2001:db8:0:1::5', 'internal', 403], ['::ffff:10.0.0.1', 'internal', 200], ['::ffff:10.1.0.1', 'internal', 403], ['::a00:1', 'internal', 403],
        ['127.0.0.1', 'outside', 403], ['128.0.0.1', 'outside', 200], ['::1', 'outside', 200], ['::ffff:127.0.0.1', 'outside', 403],
        ['10.0.0.1', 'sixes', 403], ['::ffff:10.0.0.1', 'sixes', 403], ['::1', 'sixes', 200], ['10.0.0.1', 'nobody', 403], ['10.0.63.255', 'many', 200], ['10.0.64.0', 'many', 403],
      ]
      for (const [address, name, status] of cases) t.equal(await from(address, `${name}.test`), status, `${address} at ${name}`)
      refused(await get(nginx.port, 'outside.test'), errors.source_denied, 'in words')
      // Who comes by a socket without an address is nowhere known to be allowed.
      const unknown = await new Promise<string>((resolve, reject) => {
        const socket = net.connect(join(stand.runDir, 'visitors.sock'), () => socket.write('GET / HTTP/1.1\r\nHost: outside.test\r\nConnection: close\r\n\r\n'))
        socket.on('error', reject).once('data', (chunk: Buffer) => resolve(chunk.toString()))
      })
      t.match(unknown, 'HTTP/1.1 403 ')
    })

    await t.test('http is sent to https, with path, query and the method where asked', async (t) => {
      publish('moved', { https_redirect: 301 })
      publish('permanent', { https_redirect: 308, token: { sha256: [hash('x')] } })
      const moved = await get(nginx.port, 'moved.test:8080', '/a%20b?c=d')
      t.equal(moved.status, 301)
      t.equal(field(moved, 'Location'), 'https://moved.test/a%20b?c=d')
      t.match(moved.body, '301 Moved Permanently')
      const permanent = await get(nginx.port, 'permanent.test', '/', ['Authorization: Bearer x'])
      t.equal(permanent.status, 308, 'before anybody is asked for a credential that others could read')
      t.equal(field(permanent, 'Location'), 'https://permanent.test/')
      refused(permanent, errors.https_only, 'in words')
    })

    await t.test('a token: as Bearer, or in a field of its own', async (t) => {
      publish('bearer', { token: { sha256: [hash('other'), hash('se-cret_1')] } })
      publish('field', { token: { field: 'X-Api-Key', sha256: [hash('secret')] } })
      for (const right of ['Bearer se-cret_1', 'bearer other', 'BEARER  se-cret_1']) t.equal((await get(nginx.port, 'bearer.test', '/', [`Authorization: ${right}`])).status, 200, right)
      const wrong = ['', 'Bearer', 'Bearer ', 'Bearer wrong', 'se-cret_1', 'Bearer se-cret_1 x', `Bearer ${hash('other')}`, 'Basic se-cret_1', 'Bearer undefined']
      for (const value of wrong) t.equal((await get(nginx.port, 'bearer.test', '/', [`Authorization: ${value}`])).status, 401, value)
      const reply = await get(nginx.port, 'bearer.test')
      refused(reply, errors.credential_wrong, 'in words')
      t.equal(field(reply, 'WWW-Authenticate'), 'Bearer realm="bearer"')
      t.equal((await get(nginx.port, 'field.test', '/', ['x-api-key: secret'])).status, 200)
      for (const lines of [[], ['X-Api-Key: '], ['X-Api-Key: Secret'], ['Authorization: Bearer secret'], ['X-Api-Key: secret', 'X-Api-Key: secret']]) {
        const denied = await get(nginx.port, 'field.test', '/', lines)
        t.equal(denied.status, 401, lines.join())
        t.equal(field(denied, 'WWW-Authenticate'), 'Postern-Token realm="field", field="X-Api-Key"')
      }
    })

    await t.test('Basic, alone or beside a token', async (t) => {
      publish('basic', { basic: { sha256: [hash('ann:secret'), hash('bob:geheim-é')] } })
      publish('either', { token: { sha256: [hash('token')] }, basic: { sha256: [hash('ann:secret')] } })
      for (const pair of ['ann:secret', 'bob:geheim-é']) t.equal((await get(nginx.port, 'basic.test', '/', [basic(pair)])).status, 200, pair)
      for (const line of [basic('ann:wrong'), basic('ann'), basic(''), 'Authorization: Basic', 'Authorization: Basic !!!', 'Authorization: Bearer ann:secret']) {
        const reply = await get(nginx.port, 'basic.test', '/', [line])
        t.equal(reply.status, 401, line)
        t.equal(field(reply, 'WWW-Authenticate'), 'Basic realm="basic", charset="UTF-8"')
      }
      for (const line of [basic('ann:secret'), 'Authorization: Bearer token']) t.equal((await get(nginx.port, 'either.test', '/', [line])).status, 200, line)
      t.equal(field(await get(nginx.port, 'either.test'), 'WWW-Authenticate'), 'Bearer realm="either", Basic realm="either", charset="UTF-8"')
    })

    await t.test('a body that says it is too long is refused unread', async (t) => {
      publish('small', { body_max_bytes: 10 })
      publish('none', { body_max_bytes: 0 })
      const post = (host: string, body: string): Promise<Reply> => raw(nginx.port, `POST / HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${String(body.length)}\r\nConnection: close\r\n\r\n${body}`)
      t.equal((await post('small.test', 'x'.repeat(10))).status, 200)
      const reply = await unsent(nginx.port, 'small.test', 11)
      t.equal(reply.status, 413)
      refused(reply, errors.body_too_large, 'in words')
      t.equal((await post('none.test', '')).status, 200)
      t.equal((await unsent(nginx.port, 'none.test', 1)).status, 413)
      t.equal((await get(nginx.port, 'none.test')).status, 200, 'no body at all')
    })

    await t.test('maintenance has its own words and time, in each language, and no markup of its own', async (t) => {
      publish('works', { maintenance: { text: 'Back at noon: “<b>&"', retry_after_s: 600 } })
      publish('quiet', { maintenance: {} }, { state: 'away' })
      const reply = await get(nginx.port, 'works.test')
      t.equal(reply.status, 503)
      t.equal(field(reply, 'Retry-After'), '600')
      refused(reply, errors.maintenance, 'in words')
      const text = (answer: Reply): string => Buffer.from(answer.body, 'latin1').toString('utf8')
      t.match(text(reply), 'Back at noon: “<b>&"\n')
      t.match(text(await get(nginx.port, 'works.test', '/', ['Accept: text/html'])), '<p>Back at noon: “&#60;b&#62;&#38;&#34;</p>')
      t.equal((JSON.parse(text(await get(nginx.port, 'works.test', '/', ['Accept: application/json']))) as { detail: string }).detail, 'Back at noon: “<b>&"')
      const quiet = await get(nginx.port, 'quiet.test')
      t.match(quiet.body, errors.maintenance.says, 'also while nobody serves it')
      t.equal(field(quiet, 'Retry-After'), '5')
    })

    await t.test('off and not well are told apart from away, unless the service is concealed', async (t) => {
      for (const [state, row] of [['off', errors.service_off], ['unhealthy', errors.origin_unhealthy], ['away', errors.service_away]] as const) {
        stand.route(`${state}.test`, `1 ${state} h1 it -\n`)
        stand.route(`hidden-${state}.test`, `1 ${state} h1 it c\n`)
        publish(`asks-${state}`, { token: { sha256: [hash('x')] } }, { state, flags: 'cy' })
        const reply = await get(nginx.port, `${state}.test`)
        t.equal(reply.status, 503)
        refused(reply, row, state)
        t.equal(field(reply, 'Retry-After'), '5')
        for (const host of [`hidden-${state}.test`, `asks-${state}.test`]) t.equal(code(await get(nginx.port, host)), 'no_service', host)
      }
      publish('closed', { token: { sha256: [hash('x')] } }, { state: 'away' })
      t.equal((await get(nginx.port, 'closed.test')).status, 401, 'who may not come in does not hear whether anybody serves it')
      t.equal(code(await get(nginx.port, 'closed.test', '/', ['Authorization: Bearer x'])), 'service_away')
    })

    await t.test('each prefix and wildcard has the policy of its own service', async (t) => {
      stand.route('@policy-api', policyFile('api', { token: { sha256: [hash('x')] } })!)
      stand.route('@policy-site', policyFile('site', { methods: ['GET'] })!)
      for (const host of ['site.test', '+.site.test']) {
        stand.route(host, '1 up h1 site yp\n')
        stand.route(`${host}@prefixes`, '/api 1 up h1 api y\n/open 1 up h1 open -\n')
      }
      for (const host of ['site.test', 'a.site.test']) {
        t.equal((await get(nginx.port, host)).status, 200, host)
        t.equal((await get(nginx.port, host, '/open')).status, 200, host)
        t.equal((await get(nginx.port, host, '/api/x')).status, 401, host)
        t.equal((await get(nginx.port, host, '/api/x', ['Authorization: Bearer x', 'Connection: close, x'])).status, 200, host)
        t.equal((await get(nginx.port, host, '/open/../api')).status, 400, host)
      }
    })

    await t.test('without a whole policy nothing passes; without the flag none is read', async (t) => {
      const whole = policyFile('broken', { methods: ['GET'] })!
      for (const text of ['', '{', whole.slice(0, -4), 'null', '[]', '"x"', '{"v":2}', '{}', '{"v":0}\n', `{"v":1,"x":"${'x'.repeat(20_000)}"}`]) {
        stand.route('@policy-broken', text)
        stand.route('broken.test', '1 up h1 broken y\n')
        const reply = await get(nginx.port, 'broken.test')
        t.equal(reply.status, 503, text.slice(0, 20))
        refused(reply, errors.no_route_table, text.slice(0, 20))
      }
      stand.route('lost.test', '1 up h1 lost y\n')
      t.equal(code(await get(nginx.port, 'lost.test')), 'no_route_table')
      stand.route('free.test', '1 up h1 broken -\n')
      t.equal((await get(nginx.port, 'free.test')).status, 200)
      stand.route('@policy-broken', '{"v":1}\n')
      t.equal((await get(nginx.port, 'broken.test')).status, 200, 'one that asks for nothing')
    })

    await t.test('what a policy refuses reaches no gateway, what it lets pass does once', async (t) => {
      stand.seen.length = 0
      publish('counted', { token: { sha256: [hash('x')] } })
      for (let i = 0; i < 5; i++) await get(nginx.port, 'counted.test')
      t.equal(stand.seen.length, 0)
      await get(nginx.port, 'counted.test', '/y', ['Authorization: Bearer x'])
      t.match(stand.seen, [{ path: '/y', fields: { postern: /;counted;/ } }])
    })

    await t.test('a change is seen by the very next request', async (t) => {
      for (let i = 0; i < 20; i++) {
        publish('changing', i % 2 === 0 ? { methods: ['POST'] } : { methods: ['GET'] })
        t.equal((await get(nginx.port, 'changing.test')).status, i % 2 === 0 ? 405 : 200, String(i))
      }
      writeFileSync(join(stand.runDir, 'routes/changing.test'), '1 up h1 changing -\n')
      t.equal((await get(nginx.port, 'changing.test')).status, 200)
    })
  })
}

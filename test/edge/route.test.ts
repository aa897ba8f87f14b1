// Which service a host and path belong to, by the route files alone, on every nginx that can be had.
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { get, raw, startStand } from './stand.ts'

/** host, path, expected: a service's name or a refusal's code. */
const ROUTES: readonly (readonly [string, string, string])[] = [
  ['demo.test', '/', 'demo'],
  ['demo.test:8080', '/x?y', 'demo'],
  ['a.wild.test', '/', 'wild'],
  ['d.c.b.a.wild.test', '/', 'wild'],
  ['e.d.c.b.a.wild.test', '/', 'no_service'],
  ['wild.test', '/', 'no_service'],
  ['special.wild.test', '/', 'special'],
  ['away.test', '/', 'service_away'],
  ['hidden.test', '/', 'no_service'],
  ['unknown.test', '/', 'no_service'],
  ['localhost', '/', 'no_service'],
  ['broken.test', '/', 'no_route_table'],
  ['empty.test', '/', 'no_route_table'],
  ['later.test', '/', 'no_route_table'],
  ['cut.test', '/', 'no_route_table'],
  ['large.test', '/', 'no_route_table'],
  ['folder.test', '/', 'no_route_table'],
  ['lost.test', '/', 'no_route_table'],
  ['paths.test', '/', 'main'],
  ['paths.test', '/api', 'api'],
  ['paths.test', '/api?q', 'api'],
  ['paths.test', '/api/', 'api'],
  ['paths.test', '/api/v1', 'v1'],
  ['paths.test', '/api/v1/x', 'v1'],
  ['paths.test', '/api/v2', 'api'],
  ['paths.test', '/apis', 'main'],
  ['paths.test', '/gone/x', 'service_away'],
  ['only.test', '/', 'no_service'],
  ['only.test', '/here', 'only'],
]

/** Threat 5 and 6: the whole of the request's head after the method's line, expected. */
const HOSTS: readonly (readonly [string, string])[] = [
  ['demo.test', 'demo'],
  ['DEMO.test', 'demo'],
  ['demo.test.', 'demo'],
  ['DEMO.TEST.:80', 'demo'],
  ['demo.test:1', 'demo'],
  ['demo.test:65535', 'demo'],
  ['demo.test:', '400'],
  ['demo.test:80:80', '400'],
  ['demo.test:8o', '400'],
  ['demo.test:123456', '400'],
  ['demo.test:80@evil.test', '400'],
  ['user@demo.test', '400'],
  ['demo.test, evil.test', '400'],
  ['demo.test evil.test', '400'],
  ['demo..test', '400'],
  ['.demo.test', '400'],
  ['demo.test..', '400'],
  ['.mark', '400'],
  ['.', '400'],
  ['..', '400'],
  ['../demo.test', '400'],
  ['../../etc/passwd', '400'],
  ['..%2fdemo.test', '400'],
  ['%2e%2e', '400'],
  ['demo.test%00', '400'],
  ['demo.test\0', '400'],
  ['demo.test/', '400'],
  ['demo.test\\', '400'],
  ['/', '400'],
  ['+.wild.test', '400'],
  ['+', '400'],
  ['paths.test@prefixes', '400'],
  ['paths_test', '400'],
  ['[::1]', '400'],
  ['[::1]:80', '400'],
  ['[', '400'],
  ['127.0.0.1', 'no_service'],
  ['CON', 'no_service'],
  ['xn--bcher-kva.test', 'no_service'],
  ['b\xfccher.test', '400'],
  ['a'.repeat(300), '400'],
  [`${'a.'.repeat(126)}a`, 'no_service'],
  [`${'a.'.repeat(127)}a`, '400'],
  ['__proto__', '400'],
  ['constructor', 'no_service'],
  ['', '400'],
]

/** Threat 7: the raw path at paths.test, expected. What is passed on is passed as it came. */
const PATHS: readonly (readonly [string, string])[] = [
  ['/api/../', '400'],
  ['/api/%2e%2e/', '400'],
  ['/api/..%2f', '400'],
  ['/public/..%2fapi', '400'],
  ['/public/../api/v1', '400'],
  ['/./api', '400'],
  ['//api', '400'],
  ['/%61pi', '400'],
  ['/a%70i/v1', '400'],
  ['/api%2fv1', '400'],
  ['/api//v1', '400'],
  ['/api/x/../v1', '400'],
  ['/api/./v1', '400'],
  ['/api/v1/..', '400'],
  ['/api#/x', '400'],
  ['/#api', '400'],
  ['/api;x', 'main'],
  ['/api\\v1', 'main'],
  ['/API', 'main'],
  ['/api%00', '400'],
  ['/api/v1/%2e', 'v1'],
  ['/api/v1//x', 'v1'],
  ['/api/v1/a/../b', 'v1'],
  ['/api/v1;x', 'api'],
  ['/public/../x', 'main'],
  ['/x/%2F/y', 'main'],
  ['/%zz', '400'],
  ['/../api', '400'],
  ['/x?/../api', 'main'],
  ['/api/v1?%2e%2e/..', 'v1'],
  ['/a%20b%C3%A9', 'main'],
]

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    const stand = await startStand(t)
    stand.route('demo.test', '1 up h1 demo -\n')
    stand.route('+.wild.test', '1 up h1 wild -\n')
    stand.route('special.wild.test', '1 up h1 special -\n')
    stand.route('away.test', '1 away h1 away -\n')
    stand.route('hidden.test', '1 away h1 hidden c\n')
    stand.route('broken.test', 'what is this\n')
    stand.route('empty.test', '')
    stand.route('later.test', '2 up h1 later -\n')
    stand.route('cut.test', '1 up h1 cut -')
    stand.route('large.test', `1 up h1 large ${'x'.repeat(600)}\n`)
    stand.route('lost.test', '1 up h1 lost p\n')
    stand.route('paths.test', '1 up h1 main p\n')
    stand.route('paths.test@prefixes', '/api/v1 1 up h1 v1 -\n/gone 1 away h1 gone -\n/api 1 up h1 api -\n')
    stand.route('only.test', '1 none h1 - p\n')
    stand.route('only.test@prefixes', '/here 1 up h1 only -\n')
    mkdirSync(join(stand.runDir, 'routes/folder.test'))
    const nginx = await startNginx(t, { runDir: stand.runDir, binary, expected: [/route table can't be read/] })

    /** What came of a request: the service it reached, or the code or status of the refusal. */
    const outcome = async (reply: Promise<{ status: number; body: string; fields: string }>): Promise<string> => {
      const { status, body } = await reply
      const seen = stand.seen.pop()
      if (seen !== undefined) return String(seen.fields.postern).split(';')[2] ?? ''
      return /^code: (.*)$/m.exec(body)?.[1] ?? String(status)
    }
    const expects = async (t: Pick<Test, 'equal'>, reply: ReturnType<typeof raw>, expected: string, name: string): Promise<void> => {
      const got = await outcome(reply)
      t.equal(expected === '400' ? String((await reply).status) : got, expected, name)
    }

    await t.test('a host and path have one service', async (t) => {
      for (const [host, path, expected] of ROUTES) {
        t.equal(await outcome(get(nginx.port, host, path)), expected, `${host}${path}`)
      }
    })
    await t.test('an ambiguous or strange Host is 400', async (t) => {
      for (const [host, expected] of HOSTS) await expects(t, get(nginx.port, host), expected, JSON.stringify(host))
      const lines = (...fields: string[]): ReturnType<typeof raw> => raw(nginx.port, [...fields, 'Connection: close', '', ''].join('\r\n'))
      await expects(t, lines('GET / HTTP/1.1', 'Host: demo.test', 'Host: away.test'), '400', 'two hosts')
      await expects(t, lines('GET / HTTP/1.1', 'Host: demo.test', 'Host: demo.test'), '400', 'the same host twice')
      await expects(t, lines('GET http://demo.test/ HTTP/1.1', 'Host: away.test'), '400', 'absolute form against Host')
      await expects(t, lines('GET http://u@demo.test/ HTTP/1.1', 'Host: demo.test'), '400', 'absolute form with user')
      await expects(t, lines('GET / HTTP/1.1'), '400', 'no host')
      await expects(t, lines('GET / HTTP/1.0'), '400', 'no host in 1.0')
    })
    await t.test('absolute form that agrees with Host is served', async (t) => {
      t.equal(await outcome(raw(nginx.port, 'GET http://demo.test/x HTTP/1.1\r\nHost: demo.test\r\nConnection: close\r\n\r\n')), 'demo')
    })
    await t.test('a path that nginx would read as another service’s is 400, any other goes on as it came', async (t) => {
      for (const [path, expected] of PATHS) {
        const reply = await get(nginx.port, 'paths.test', path)
        const seen = stand.seen.at(-1)
        if (expected === '400') t.equal(reply.status, 400, path)
        else t.match(seen, { path, fields: { postern: new RegExp(`^1;[0-9a-f]{32};${expected};`) } }, path)
        stand.seen.length = 0
      }
    })
    await t.test('a mark of the gateway’s own says which parents are worth a look', async (t) => {
      const mark = join(stand.runDir, 'routes/.mark')
      stand.route('+.i.h.g.f.e.d.c.b.a.test', '1 up h1 long -\n')
      const asked = ['a.wild.test', 'c.b.a.wild.test', 'x.i.h.g.f.e.d.c.b.a.test', 'w.x.i.h.g.f.e.d.c.b.a.test', 'unknown.test', 'special.wild.test'] as const
      for (const [lengths, wild, deep, long] of [[0, 0, 0, 0], [0b10, 1, 1, 0], [0b101, 0, 0, 0], [0x100, 0, 0, 1], [0x1ff, 1, 1, 1]] as const) {
        rmSync(mark)
        stand.plain('.mark', `1\n${'.'.repeat(lengths)}`)
        const expected = [wild, deep, long, long, 0, 1].map((found, at) => (found === 0 ? 'no_service' : ['wild', 'wild', 'long', 'long', '', 'special'][at]))
        for (const [at, host] of asked.entries()) t.equal(await outcome(get(nginx.port, host)), expected[at], `${host} with ${String(lengths)}`)
      }
    })
    await t.test('without the mark nothing is known to be unknown, and a name of its own is served', async (t) => {
      rmSync(join(stand.runDir, 'routes/.mark'))
      t.equal(await outcome(get(nginx.port, 'demo.test')), 'demo')
      for (const host of ['unknown.test', 'a.wild.test']) t.equal(await outcome(get(nginx.port, host)), 'no_route_table', host)
    })
  })
}

// Threat 36: no cache or buffer of nginx mixes visitors, and no origin commands nginx, whatever the operator has set above.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { missing } from '../harness/nginx.ts'
import { visit } from '../system/visitor.ts'
import { startWorld } from '../system/world.ts'

const LARGE_BYTES = 300_000
const COMMANDS: Readonly<Record<string, string>> = {
  'X-Accel-Redirect': '/inside/secret', 'X-Accel-Limit-Rate': '1', 'X-Accel-Buffering': 'yes', 'X-Accel-Expires': '3600', 'X-Accel-Charset': 'evil', 'X-Sendfile': '/inside/secret',
}

for (const binary of ['debian', 'new'] as const) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'shared-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'secret'), 'SECRET')
    let requests = 0
    const world = await startWorld(t, {
      binary,
      http: `proxy_cache_path ${folder}/cache keys_zone=pages:1m;`,
      include: `proxy_cache pages; proxy_cache_valid any 1h; proxy_cache_key $uri; proxy_buffering on; proxy_store off; proxy_intercept_errors on; error_page 404 /inside/secret;
        location /inside/ { internal; alias ${folder}/; }`,
      handler: (request, response) => {
        requests++
        request.resume()
        if (request.url === '/404') response.statusCode = 404
        response.writeHead(response.statusCode, { ...(request.url === '/commands' ? COMMANDS : {}), 'Cache-Control': 'public, max-age=3600', 'Content-Length': LARGE_BYTES })
        const mine = `${request.headers.cookie ?? 'nobody'}.`
        response.end(mine.repeat(LARGE_BYTES).slice(0, LARGE_BYTES))
      },
    })
    for (const [door, headers] of Object.entries({ 'the h1 door': [], 'the h2 door': ['Transfer-Encoding', 'chunked'] })) {
      const ask = async (path: string, cookie: string): Promise<{ status: number; mine: boolean; fields: string[] }> => {
        const answer = await visit({ port: world.port, path, method: headers.length === 0 ? 'GET' : 'POST', headers: [...headers, 'Cookie', cookie], ...(headers.length === 0 ? {} : { body: 'x' }) })
        return { status: answer.status, mine: answer.bytes === LARGE_BYTES && answer.body.toString() === `${cookie}.`.repeat(LARGE_BYTES).slice(0, LARGE_BYTES), fields: Object.keys(answer.headers) }
      }

      await t.test(`what may be cached is still asked for each time, and each gets its own: ${door}`, async (t) => {
        const before = requests
        for (let round = 0; round < 5; round++) {
          const answers = await Promise.all(Array.from({ length: 10 }, (_none, i) => ask('/page', `visitor${String(i)}`)))
          t.ok(answers.every(({ status, mine }) => status === 200 && mine))
        }
        t.equal(requests - before, 50)
      })

      await t.test(`an origin commands nginx nothing: ${door}`, async (t) => {
        const { status, mine, fields } = await ask('/commands', 'me')
        t.same([status, mine], [200, true])
        t.same(fields.filter((name) => name.startsWith('x-accel')), [])
      })

      await t.test(`its error pages are its own: ${door}`, async (t) => {
        const { status, mine } = await ask('/404', 'me')
        t.same([status, mine], [404, true])
      })
    }
  })
}

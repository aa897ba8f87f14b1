// Heads that are large, odd or at odds with HTTP/2 get the same answer by both doors.
import t from 'tap'
import { visit } from './visitor.ts'
import { startWorld } from './world.ts'

const REPEATED = ['Content-Language', 'en', 'Content-Language', 'de', 'X-Content-Type-Options', 'nosniff', 'X-Content-Type-Options', 'nosniff', 'Vary', 'a', 'Vary', 'b', 'ETag', '"x"', '__proto__', 'y', 'constructor', 'z']

const world = await startWorld(t, {
  handler: (request, response) => {
    request.on('end', () => response.writeHead(200, request.url === '/repeated' ? [...REPEATED, 'Content-Length', '2'] : ['Content-Length', '2']).end('ok')).resume()
  },
})

for (const [door, framing] of Object.entries({ 'the h1 door': [], 'the h2 door': ['Transfer-Encoding', 'chunked'] })) {
  const post = (path: string, headers: readonly string[]): ReturnType<typeof visit> => visit({ port: world.port, method: 'POST', path, headers: [...framing, ...headers], body: 'x' })

  t.test(`a head of more than 64 KiB or 100 fields is 431: ${door}`, async (t) => {
    const before = world.origin.requests()
    const fields = (count: number): string[] => Array.from({ length: count }, (_none, i) => [`X-${String(i)}`, 'v']).flat()
    for (const headers of [fields(110), fields(400), ['X-A', 'x'.repeat(40_000), 'X-B', 'x'.repeat(40_000)]]) {
      const answer = await post('/', ['Accept', 'application/json', ...headers])
      t.same([answer.status, (JSON.parse(answer.body.toString()) as { code: string }).code], [431, 'head_too_large'])
    }
    t.equal(world.origin.requests(), before)
    t.equal((await post('/', fields(60))).status, 200)
    t.equal((await post('/', ['X-A', 'x'.repeat(12_000)])).status, 200)
  })

  t.test(`what HTTP/2 forbids and HTTP/1.1 does not is no fault of a visitor's: ${door}`, async (t) => {
    const headers = ['Proxy-Connection', 'keep-alive', 'Keep-Alive', 'timeout=5', 'TE', 'gzip, trailers', 'Upgrade', 'h2c', 'Connection', 'Upgrade', 'Trailer', 'X', 'X-Latin', '\xe4\xff', 'X-Empty', '', 'X-Tab', 'a\tb']
    t.equal((await post('/', headers)).status, 200)
  })

  t.test(`fields that an origin repeats without right pass, and harm nobody: ${door}`, async (t) => {
    const answer = await post('/repeated', [])
    t.same([answer.status, answer.body.toString()], [200, 'ok'])
    const values = (name: string): string[] => answer.rawHeaders.filter((_value, i, all) => i % 2 === 1 && all[i - 1]!.toLowerCase() === name)
    for (const [name, expected] of [['content-language', ['en', 'de']], ['x-content-type-options', ['nosniff', 'nosniff']], ['vary', ['a', 'b']], ['__proto__', ['y']], ['constructor', ['z']]] as const) t.same(values(name), expected, name)
    t.equal((await post('/', [])).status, 200)
  })
}

// HTTP through all parts: what the origin says is what the visitor gets, and the other way.
import http2 from 'node:http2'
import t from 'tap'
import { body, hashOf } from './bodies.ts'
import { begin, HOST, read, visit } from './visitor.ts'
import { startWorld } from './world.ts'

/** All but 1xx that the registry knows, and some that it does not. */
const STATUSES = [
  ...[200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308],
  ...[400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499],
  ...[500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 599],
]
const LARGE_BYTES = 48 * 1024 * 1024

interface Seen {
  method: string
  url: string
  rawHeaders: string[]
  bytes: number
}

/** An origin that does what the path says. */
const seen: Seen[] = []
const world = await startWorld(t, {
  handler: (request, response) => {
    const url = new URL(request.url!, 'http://origin')
    const entry: Seen = { method: request.method!, url: request.url!, rawHeaders: request.rawHeaders, bytes: 0 }
    seen.push(entry)
    request.on('data', (chunk: Buffer) => (entry.bytes += chunk.length))
    switch (url.pathname) {
      case '/status': {
        request.resume()
        response.writeHead(Number(url.searchParams.get('is')), { 'X-Own': 'yes' })
        return response.end()
      }
      case '/repeat': {
        request.resume()
        response.writeHead(200, ['Set-Cookie', 'a=1', 'X-Between', 'x', 'Set-Cookie', 'b=2', 'Server', 'origin/1', 'Date', 'Tue, 01 Jan 2030 00:00:00 GMT', 'Content-Length', '2'])
        return response.end('ok')
      }
      case '/mirror': {
        response.writeHead(200, { 'Content-Type': 'application/octet-stream' })
        return request.pipe(response)
      }
      case '/large': {
        request.resume()
        if (url.searchParams.has('length')) response.setHeader('Content-Length', LARGE_BYTES)
        return body(7, LARGE_BYTES).pipe(response)
      }
      case '/range': {
        request.resume()
        const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '')
        if (range === null) return response.end('0123456789')
        response.writeHead(206, { 'Content-Range': `bytes ${range[1]!}-${range[2]!}/10` })
        return response.end('0123456789'.slice(Number(range[1]), Number(range[2]) + 1))
      }
      case '/trailers': {
        request.resume()
        response.writeHead(200, { Trailer: 'X-Sum', 'Content-Type': 'text/plain' })
        response.write('body')
        response.addTrailers({ 'X-Sum': '42' })
        return response.end()
      }
      case '/early': {
        // Answers before it reads the upload, and never reads it.
        response.writeHead(Number(url.searchParams.get('is')), { 'Content-Length': '5', Connection: 'close' })
        return response.end('early')
      }
      default:
        request.resume()
        request.on('end', () => response.end(`${request.method!} ${request.url!}`))
        return undefined
    }
  },
})
const { port } = world
const last = (): Seen => seen.at(-1)!

for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'MKCOL', 'COPY', 'MOVE', 'LOCK', 'UNLOCK', 'PROPPATCH', 'REPORT', 'SEARCH', 'PURGE']) {
  t.test(`${method} arrives as ${method}`, async (t) => {
    const answer = await visit({ port, method, path: '/x%2Fy?q=%20a&b' })
    t.equal(answer.status, 200)
    t.equal(answer.body.toString(), `${method} /x%2Fy?q=%20a&b`, 'path and query as they were sent')
  })
}

t.test('every final status passes, with the origin’s own fields', async (t) => {
  for (const status of STATUSES) {
    const answer = await visit({ port, path: `/status?is=${String(status)}` })
    t.equal(answer.status, status)
    t.equal(answer.headers['x-own'], 'yes', `${String(status)} comes from the origin`)
    t.ok(answer.complete)
  }
})

t.test('HEAD has the fields of GET and no body', async (t) => {
  const answer = await visit({ port, method: 'HEAD', path: '/repeat' })
  t.equal(answer.headers['content-length'], '2')
  t.equal(answer.bytes, 0)
  t.ok(answer.complete)
})

t.test('repeated fields keep their order; Date and Server are the origin’s', async (t) => {
  const answer = await visit({ port, path: '/repeat' })
  t.same(answer.headers['set-cookie'], ['a=1', 'b=2'])
  t.equal(answer.headers.server, 'origin/1')
  t.equal(answer.headers.date, 'Tue, 01 Jan 2030 00:00:00 GMT')
  await visit({ port, headers: ['X-Many', '1', 'Accept', 'text/html', 'x-many', '2', 'X-Many', '3', 'Cookie', 'c=d'] })
  const many = last().rawHeaders.filter((_value, i, all) => i % 2 === 1 && all[i - 1]!.toLowerCase() === 'x-many')
  t.same(many, ['1', '2', '3'])
})

t.test('hop-by-hop fields, what Connection names, and fields of ours do not reach the origin; who came does', async (t) => {
  await visit({
    port,
    headers: [
      ...['Connection', 'X-Secret, X-Forwarded-For, Authorization', 'X-Secret', '1', 'Keep-Alive', 'timeout=5', 'Proxy-Connection', 'close', 'TE', 'gzip'],
      ...['Postern', 'forged', 'Postern-Worker', '1', 'X-Forwarded-For', '6.6.6.6', 'X-Forwarded-Proto', 'gopher', 'Forwarded', 'for=6.6.6.6', 'X-Real-IP', '6.6.6.6', 'X-Kept', 'yes'],
    ],
  })
  const fields = new Map(last().rawHeaders.map((name, i, all) => [name.toLowerCase(), all[i + 1]!] as const).filter((_entry, i) => i % 2 === 0))
  for (const gone of ['x-secret', 'keep-alive', 'proxy-connection', 'postern', 'postern-worker', 'authorization']) t.notOk(fields.has(gone), `${gone} is gone`)
  t.equal(fields.get('x-kept'), 'yes')
  t.equal(fields.get('host'), HOST)
  t.equal(fields.get('x-forwarded-for'), '127.0.0.1')
  t.equal(fields.get('x-forwarded-proto'), 'http')
  t.match(fields.get('forwarded'), /for="?127\.0\.0\.1/)
  t.ok(fields.has('via'))
  t.notMatch([...fields.values()].join(), /6\.6\.6\.6|gopher/)
})

for (const [name, headers] of [['with Content-Length', ['Content-Length', String(LARGE_BYTES)]], ['chunked', ['Transfer-Encoding', 'chunked']]] as const) {
  t.test(`a large upload ${name} arrives whole and comes back whole while it is still being sent`, async (t) => {
    const answer = await visit({ port, method: 'POST', path: '/mirror', headers, body: body(3, LARGE_BYTES) })
    t.equal(answer.status, 200)
    t.equal(answer.bytes, LARGE_BYTES)
    t.equal(answer.sha256, hashOf(3, LARGE_BYTES))
    t.ok(answer.complete)
  })
}

for (const path of ['/large', '/large?length']) {
  t.test(`a large download arrives whole (${path})`, async (t) => {
    const answer = await visit({ port, path })
    t.equal(answer.bytes, LARGE_BYTES)
    t.equal(answer.sha256, hashOf(7, LARGE_BYTES))
    t.ok(answer.complete)
  })
}

t.test('bodies of every size around the bounds arrive whole, in both directions', async (t) => {
  for (const bytes of [0, 1, 4_095, 4_096, 4_097, 16_384, 65_535, 65_536, 65_537, 131_072, 1_000_000]) {
    for (const headers of [['Content-Length', String(bytes)], ['Transfer-Encoding', 'chunked']]) {
      const answer = await visit({ port, method: 'PUT', path: '/mirror', headers, body: body(bytes, bytes) })
      t.equal(answer.sha256, hashOf(bytes, bytes), `${String(bytes)} bytes, ${headers[0]!}`)
    }
  }
})

t.test('ranges pass', async (t) => {
  const answer = await visit({ port, path: '/range', headers: ['Range', 'bytes=2-4'] })
  t.equal(answer.status, 206)
  t.equal(answer.headers['content-range'], 'bytes 2-4/10')
  t.equal(answer.body.toString(), '234')
})

for (const status of [413, 200]) {
  t.test(`an origin that answers ${String(status)} before it reads the upload is heard`, async (t) => {
    for (const bytes of [60_000, 20_000_000]) {
      const { request, answer } = begin({ port, method: 'POST', path: `/early?is=${String(status)}`, headers: ['Content-Length', String(bytes)] })
      request.on('error', () => undefined)
      body(1, bytes).pipe(request)
      const read_ = await read(await answer)
      t.equal(read_.status, status, `${String(bytes)} bytes`)
      t.equal(read_.body.toString(), 'early')
      request.destroy()
    }
  })
}

t.test('many requests on one connection get each its own answer', async (t) => {
  const answers = await Promise.all(Array.from({ length: 200 }, (_value, i) => visit({ port, path: `/n/${String(i)}` })))
  t.same(answers.map((answer) => answer.body.toString()), Array.from({ length: 200 }, (_value, i) => `GET /n/${String(i)}`))
})

t.test('a visitor of HTTP/2 gets the origin’s trailers through the door that keeps them', async (t) => {
  const session = http2.connect(`http://127.0.0.1:${String(world.h2Port)}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':method': 'POST', ':path': '/trailers', ':authority': HOST })
  stream.end(Buffer.alloc(100_000))
  const trailers = await new Promise((resolve, reject) => {
    stream.once('trailers', (fields) => resolve(fields['x-sum']))
    stream.once('error', reject)
    stream.once('end', () => resolve('none'))
    stream.resume()
  })
  t.equal(trailers, '42')
})

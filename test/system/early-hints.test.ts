// Early hints reach a visitor where postern-modern.conf lets them through, and no interim answer ever reaches an nginx that would take it for the answer.
import http from 'node:http'
import http2 from 'node:http2'
import t, { type Test } from 'tap'
import { missing } from '../harness/nginx.ts'
import { HOST } from './visitor.ts'
import { startWorld } from './world.ts'

const LINK = '</a.css>; rel=preload'

const handler: http.RequestListener = (request, response) => {
  request.resume()
  response.writeProcessing()
  response.writeEarlyHints({ link: LINK, 'x-first': '1' }, () => {
    response.writeEarlyHints({ link: LINK, 'x-second': '2' }, () => response.end('answer'))
  })
}

/** The statuses of all heads in order, what the interim ones said, and the body. POST is of unknown length: it goes by the other door. */
function over2(t: Test, port: number, method: string): Promise<{ statuses: unknown[]; hints: unknown[]; body: string }> {
  const session = http2.connect(`http://127.0.0.1:${String(port)}`)
  t.teardown(() => session.destroy())
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':method': method, ':authority': HOST, ':path': '/' })
    const statuses: unknown[] = []
    const hints: unknown[] = []
    let body = ''
    stream.on('headers', (head) => {
      statuses.push(head[':status'])
      hints.push([head['link'], head['x-first'] ?? head['x-second']])
    })
    stream.on('response', (head) => statuses.push(head[':status']))
    stream.on('data', (chunk: Buffer) => (body += chunk.toString()))
    stream.on('end', () => resolve({ statuses, hints, body }))
    stream.on('error', reject)
    stream.end(method === 'POST' ? 'upload' : undefined)
  })
}

function over1(port: number, method: string): Promise<{ statuses: unknown[]; body: string }> {
  return new Promise((resolve, reject) => {
    const statuses: unknown[] = []
    const request = http.request({ host: '127.0.0.1', port, method, agent: false, headers: { Host: HOST, ...(method === 'POST' ? { 'Transfer-Encoding': 'chunked' } : {}) } })
    request.on('information', (head) => statuses.push(head.statusCode))
    request.on('response', (response) => {
      statuses.push(response.statusCode)
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString())).on('end', () => resolve({ statuses, body }))
    })
    request.on('error', reject)
    request.end(method === 'POST' ? 'upload' : undefined)
  })
}

t.test('with postern-modern.conf 103 passes to visitors of HTTP/2, by both doors, and nothing else does', { skip: missing('new') ?? false }, async (t) => {
  const { port, h2Port } = await startWorld(t, { handler, binary: 'new', include: 'include EDGE/postern-modern.conf;' })
  for (const method of ['GET', 'POST']) {
    t.same(await over2(t, h2Port, method), { statuses: [103, 103, 200], hints: [[LINK, '1'], [LINK, '2']], body: 'answer' }, method)
    t.same(await over1(port, method), { statuses: [200], body: 'answer' }, `${method} over HTTP/1.1`)
  }
})

for (const binary of ['debian', 'new'] as const) {
  t.test(`without it no interim answer passes (${binary})`, { skip: missing(binary) ?? false }, async (t) => {
    const { port, h2Port } = await startWorld(t, { handler, binary })
    for (const method of ['GET', 'POST', 'GET']) {
      t.same(await over2(t, h2Port, method), { statuses: [200], hints: [], body: 'answer' }, method)
      t.same(await over1(port, method), { statuses: [200], body: 'answer' }, `${method} over HTTP/1.1`)
    }
  })
}

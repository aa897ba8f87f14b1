// What HTTP does through any channel, as one suite: bodies by their hash, streaming, upgrades, trailers, cancelling. And the origin that it asks.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type http from 'node:http'
import http2 from 'node:http2'
import type { Duplex } from 'node:stream'
import type { Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { type Origin, startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { Random } from '../protocol/simulation.ts'
import { body, hashOf } from './bodies.ts'
import { begin, HOST, visit } from './visitor.ts'

const LARGE_BYTES = 6 * 1024 * 1024
const EVENTS = 5

/** An origin for {@link behaves}. */
export interface Behaving {
  readonly origin: Origin
  /** Requests that were begun and are not over. */
  open(): number
  /** Sends one event to the event stream that was opened last. */
  event(text: string): void
}

export async function startBehaving(t: Test): Promise<Behaving> {
  let open = 0
  let stream: http.ServerResponse | undefined
  const origin = await startOrigin(t, (request, response) => {
    open++
    response.once('close', () => open--)
    switch (request.url ?? '') {
      case '/mirror':
        return void request.pipe(response)
      case '/large':
        request.resume()
        return void body(7, LARGE_BYTES).pipe(response)
      case '/events':
        response.writeHead(200, { 'Content-Type': 'text/event-stream' })
        response.write(': begins\n\n')
        stream = response
        return undefined
      case '/trailers':
        request.resume()
        response.writeHead(200, { Trailer: 'X-Sum' })
        response.write('body')
        response.addTrailers({ 'X-Sum': '42' })
        return void response.end()
      case '/silent':
        return undefined
      default:
        request.resume()
        return void response.end(`${request.method!} ${request.url!}`)
    }
  })
  const sockets = new WebSocketServer({ noServer: true })
  origin.server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) =>
    sockets.handleUpgrade(request, socket, head, (ws) => ws.on('message', (data, binary) => ws.send(data, { binary }))),
  )
  return { origin, open: () => open, event: (text) => void stream!.write(`data: ${text}\n\n`) }
}

/** Runs the suite against a site that publishes `behaving`. `h2Port`: the same site for visitors of HTTP/2 without TLS. */
export async function behaves(t: Test, site: { readonly port: number; readonly h2Port: number }, behaving: Behaving): Promise<void> {
  const { port } = site
  const small = await Promise.all(Array.from({ length: 50 }, (_value, i) => visit({ port, path: `/n/${String(i)}` })))
  t.same(small.map((answer) => answer.body.toString()), Array.from({ length: 50 }, (_value, i) => `GET /n/${String(i)}`), 'each request has its own answer')

  const [down, counted, chunked] = await Promise.all([
    visit({ port, path: '/large' }),
    visit({ port, method: 'PUT', path: '/mirror', headers: ['Content-Length', String(LARGE_BYTES)], body: body(3, LARGE_BYTES) }),
    visit({ port, method: 'POST', path: '/mirror', headers: ['Transfer-Encoding', 'chunked'], body: body(4, LARGE_BYTES) }),
  ])
  t.equal(down.sha256, hashOf(7, LARGE_BYTES), 'a large download is whole')
  t.equal(counted.sha256, hashOf(3, LARGE_BYTES), 'a large upload with a length comes back whole')
  t.equal(chunked.sha256, hashOf(4, LARGE_BYTES), 'a large chunked upload comes back whole')
  t.ok(down.complete && counted.complete && chunked.complete)

  await streams(t, port, behaving)
  await upgrades(t, port)
  t.equal(await trailer(t, site.h2Port), '42', 'trailers arrive')

  const { request } = begin({ port, path: '/silent' })
  request.on('error', () => undefined)
  request.end()
  await until('the origin has it', () => behaving.open() === 1)
  request.destroy()
  await until('the origin is told that the visitor left', () => behaving.open() === 0)
}

async function streams(t: Test, port: number, behaving: Behaving): Promise<void> {
  const { request, answer } = begin({ port, path: '/events' })
  request.on('error', () => undefined)
  request.end()
  let text = ''
  const response = await answer
  response.on('error', () => undefined)
  response.on('data', (chunk: Buffer) => (text += chunk.toString()))
  await until('the stream begins', () => text.includes(': begins'))
  for (let i = 0; i < EVENTS; i++) {
    behaving.event(String(i))
    await until(`event ${String(i)}`, () => text.endsWith(`data: ${String(i)}\n\n`))
  }
  request.destroy()
  await until('the stream is over', () => behaving.open() === 0)
  t.pass('each event arrives before the next is sent')
}

async function upgrades(t: Test, port: number): Promise<void> {
  const ws = new WebSocket(`ws://127.0.0.1:${String(port)}/ws`, { headers: { Host: HOST }, perMessageDeflate: false })
  await once(ws, 'open')
  const message = new Random(1).bytes(1_000_000)
  ws.send(message)
  const [echo] = (await once(ws, 'message')) as [Buffer]
  t.equal(createHash('sha256').update(echo).digest('hex'), createHash('sha256').update(message).digest('hex'), 'a WebSocket carries a megabyte both ways')
  ws.close(4321)
  const [code] = (await once(ws, 'close')) as [number]
  t.equal(code, 4321)
}

async function trailer(t: Test, h2Port: number): Promise<unknown> {
  const session = http2.connect(`http://127.0.0.1:${String(h2Port)}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':method': 'POST', ':path': '/trailers', ':authority': HOST })
  stream.end(Buffer.alloc(100_000))
  return new Promise((resolve, reject) => {
    stream.once('trailers', (fields) => resolve(fields['x-sum']))
    stream.once('error', reject)
    stream.once('end', () => resolve('none'))
    stream.resume()
  })
}

// What lives longer than one answer: event streams, upgrades, visitors who leave and origins that break off.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type http from 'node:http'
import net from 'node:net'
import type { Duplex } from 'node:stream'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { reset } from '../../dev/reset.ts'
import { until } from '../harness/until.ts'
import { Random } from '../protocol/simulation.ts'
import { begin, HOST, read, visit } from './visitor.ts'
import { startWorld } from './world.ts'

const EVENTS = 20
let openAtOrigin = 0
const left: string[] = []

const world = await startWorld(t, {
  handler: (request, response) => {
    const path = request.url!
    openAtOrigin++
    response.once('close', () => {
      openAtOrigin--
      if (!response.writableFinished) left.push(path)
    })
    request.resume()
    if (path === '/events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write(': hello\n\n')
      // The next event leaves only when the visitor has said that it saw the last one.
      return void pending.push(response)
    }
    if (path.startsWith('/endless')) {
      response.writeHead(200)
      const more = (): void => {
        while (response.writable && response.write(Buffer.alloc(16_384)));
      }
      response.on('drain', more)
      return more()
    }
    if (path === '/silent') return undefined
    if (path.startsWith('/broken')) {
      if (path.endsWith('length')) response.setHeader('Content-Length', 1_000_000)
      response.writeHead(200)
      response.write(Buffer.alloc(300_000))
      return void setImmediate(() => response.write(Buffer.alloc(10_000), () => reset(request.socket)))
    }
    if (path === '/resets') return reset(request.socket)
    if (path.startsWith('/canary')) {
      const canary = path.slice(8).padEnd(32, '.')
      return response.end(canary.repeat(2_000))
    }
    if (path === '/ack') {
      pending.shift()!.write('data: x\n\n')
      return response.end()
    }
    return response.end('ok')
  },
  expected: [/upstream prematurely closed connection/, /recv\(\) failed \(104/, /upstream sent invalid|upstream rejected request/],
})
const pending: http.ServerResponse[] = []
const { port } = world

// --- event streams -------------------------------------------------------------------------------------------------------

t.test('each event arrives before the next one is sent', async (t) => {
  const { request, answer } = begin({ port, path: '/events' })
  request.end()
  const response = await answer
  t.equal(response.headers['content-type'], 'text/event-stream')
  let text = ''
  response.on('data', (chunk: Buffer) => (text += chunk.toString()))
  await until('the first comment', () => text.includes(': hello'))
  for (let i = 1; i <= EVENTS; i++) {
    const open = pending.at(-1)!
    open.write(`data: ${String(i)}\n\n`)
    await until(`event ${String(i)}`, () => text.includes(`data: ${String(i)}\n\n`))
  }
  request.destroy()
  await until('the origin sees the visitor leave', () => left.includes('/events'))
})

// --- visitors who leave --------------------------------------------------------------------------------------------------

t.test('a visitor who leaves cancels the request at the origin, before and after the head', async (t) => {
  for (const path of ['/silent', '/endless']) {
    const before = left.filter((entry) => entry === path).length
    const { request, answer } = begin({ port, path })
    request.on('error', () => undefined)
    request.end()
    if (path === '/endless') await answer
    else await until('the origin has it', () => openAtOrigin > 0)
    request.destroy()
    await until(`the origin is told (${path})`, () => left.filter((entry) => entry === path).length > before)
  }
  t.pass('both were told')
})

t.test('after a thousand visitors who left nothing is open at the origin, and nobody got another’s bytes', async (t) => {
  const foreign: string[] = []
  const one = async (i: number): Promise<void> => {
    if (i % 2 === 0) {
      const { request } = begin({ port, path: `/endless/${String(i)}` })
      request.on('error', () => undefined)
      request.on('response', (response) => {
        response.on('error', () => undefined)
        response.once('data', () => request.destroy())
      })
      request.end()
      await new Promise((resolve) => request.once('close', resolve))
      return
    }
    const id = String(i).padEnd(32, '.')
    const answer = await visit({ port, path: `/canary/${String(i)}` })
    if (answer.body.toString() !== id.repeat(2_000)) foreign.push(`${String(i)}: ${answer.body.toString().slice(0, 80)}`)
  }
  for (let from = 0; from < 1_000; from += 50) await Promise.all(Array.from({ length: 50 }, (_value, k) => one(from + k)))
  t.same(foreign, [])
  await until('nothing is open', () => openAtOrigin === 0, { logs: () => `${String(openAtOrigin)} are` })
})

// --- origins that break off ----------------------------------------------------------------------------------------------

for (const path of ['/broken', '/broken/length']) {
  t.test(`an origin that resets amid the body gives a broken body, never a short one that looks whole (${path})`, async (t) => {
    for (let i = 0; i < 10; i++) {
      const { request, answer } = begin({ port, path })
      request.on('error', () => undefined)
      request.end()
      const got = await read(await answer)
      t.equal(got.status, 200)
      t.notOk(got.complete)
    }
  })
}

t.test('an origin that resets before its head gives 502 with a code, in the visitor’s language', async (t) => {
  const json = await visit({ port, method: 'POST', path: '/resets', headers: ['Accept', 'application/json'] })
  t.equal(json.status, 502)
  t.equal(json.headers['content-type'], 'application/problem+json')
  const problem = JSON.parse(json.body.toString()) as { code: string; uuid: string; status: number }
  t.equal(problem.code, 'origin_reset')
  t.match(problem.uuid, /^[0-9a-f]{32}$/)
  t.match(json.headers['proxy-status'], /connection_terminated/)
  const html = await visit({ port, path: '/resets', headers: ['Accept', 'text/html'] })
  t.match(html.headers['content-type'], /^text\/html/)
})

// --- upgrades ------------------------------------------------------------------------------------------------------------

const sockets = new WebSocketServer({ noServer: true })
world.origin.server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
  if (request.url === '/ws') return sockets.handleUpgrade(request, socket, head, (ws) => ws.on('message', (data, binary) => ws.send(data, { binary })))
  if (request.url === '/refused') return void socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno')
  // Any other protocol: answers, then sends back what comes, turned round.
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\nConnection: Upgrade\r\n\r\nHELLO')
  socket.on('data', (chunk: Buffer) => socket.write(chunk.toString('latin1').toUpperCase(), 'latin1'))
  socket.on('error', () => undefined)
  socket.on('end', () => socket.end())
  return undefined
})

t.test('a WebSocket carries messages of every size both ways', async (t) => {
  const ws = new WebSocket(`ws://127.0.0.1:${String(port)}/ws`, { headers: { Host: HOST }, perMessageDeflate: false })
  await once(ws, 'open')
  const random = new Random(1)
  for (const bytes of [0, 1, 125, 126, 65_535, 65_536, 2_000_000]) {
    const message = random.bytes(bytes)
    ws.send(message)
    const [echo] = (await once(ws, 'message')) as [Buffer]
    t.equal(createHash('sha256').update(echo).digest('hex'), createHash('sha256').update(message).digest('hex'), `${String(bytes)} bytes`)
  }
  ws.close(4321, 'done')
  const [code, reason] = (await once(ws, 'close')) as [number, Buffer]
  t.equal(code, 4321)
  t.equal(reason.toString(), 'done')
})

t.test('any other upgrade passes, with bytes before, after and amid', async (t) => {
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(`GET /shout HTTP/1.1\r\nHost: ${HOST}\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n`)
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  await until('the answer and the first bytes', () => text.includes('HELLO'))
  t.match(text, /^HTTP\/1\.1 101 /)
  t.match(text, /\r\nUpgrade: shout\r\n/i)
  socket.write('is anybody there')
  await until('the echo', () => text.endsWith('IS ANYBODY THERE'))
  socket.end()
  await once(socket, 'close')
})

t.test('an upgrade that the origin refuses is answered as the origin says', async (t) => {
  const answer = await visit({ port, path: '/refused', headers: ['Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '13', 'Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='] })
  t.equal(answer.status, 403)
  t.equal(answer.body.toString(), 'no')
})

t.test('an upgraded connection that the visitor drops is dropped at the origin', async (t) => {
  const ws = new WebSocket(`ws://127.0.0.1:${String(port)}/ws`, { headers: { Host: HOST } })
  await once(ws, 'open')
  t.equal(sockets.clients.size, 1)
  ws.terminate()
  await until('it is gone', () => sockets.clients.size === 0)
})

// --- visitors who do not read --------------------------------------------------------------------------------------------

t.test('visitors who stop reading after the head keep nobody else waiting', async (t) => {
  const stalled: http.ClientRequest[] = []
  t.teardown(() => stalled.forEach((request) => request.destroy()))
  for (let i = 0; i < 300; i++) {
    const { request, answer } = begin({ port, path: `/endless/stalled/${String(i)}` })
    request.on('error', () => undefined)
    request.end()
    stalled.push(request)
    ;(await answer).pause()
  }
  for (let i = 0; i < 20; i++) t.equal((await visit({ port, path: '/quick' })).body.toString(), 'ok')
})

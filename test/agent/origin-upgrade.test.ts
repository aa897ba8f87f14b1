// Upgrades of any kind carry raw bytes both ways, half-closes too, and only where both sides agreed; origins with TLS are who they must be.
import https from 'node:https'
import type net from 'node:net'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { reset } from '../../dev/reset.ts'
import { startRawOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { CERTIFICATE, KEY } from './certificate.ts'
import { originAt, replying } from './origins.ts'
import { ask, fieldsOf, request, send } from './scripted.ts'

const AGREED = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\nX-Key: k\r\n\r\n'

/** Takes the head of an upgrade, then hands the socket over. */
const upgrading = (then: (socket: net.Socket, head: string) => void, reply = AGREED) => (socket: net.Socket): void => {
  socket.once('data', (chunk: Buffer) => {
    socket.write(reply)
    then(socket, chunk.toString('latin1'))
  })
}

t.test('an upgrade is asked for as the visitor asked, and bytes pass both ways', async (t) => {
  let asked = ''
  const server = await startRawOrigin(t, upgrading((socket, head) => {
    asked = head
    socket.pipe(socket)
  }))
  const stream = send(originAt(t, server.port), request('GET', '/ws', ['Sec-WebSocket-Key', 'abc'], 'chat'), { open: true })
  await until('the 101', () => stream.head)
  t.same(stream.head, [':status', '101', 'Upgrade', 'chat', 'X-Key', 'k'])
  t.match(asked, /^GET \/ws HTTP\/1\.1\r\n/)
  t.match(asked, 'connection: upgrade\r\nupgrade: chat\r\n')
  t.match(asked, 'Sec-WebSocket-Key: abc\r\n')
  stream.events!.onData(Buffer.from('over there'))
  await until('it came back', () => stream.text === 'over there')
  t.equal(stream.consumedBytes, 10)
  stream.events!.onEnd([], [])
  await until('the end came back', () => stream.ended)
  await until('the connection is closed', () => server.connections() === 0)
})

t.test('bytes right behind the 101 and bytes before it belong to the stream', async (t) => {
  const server = await startRawOrigin(t, upgrading((socket, head) => {
    t.notMatch(head, 'early')
    socket.pipe(socket)
  }, `${AGREED}behind `))
  const stream = send(originAt(t, server.port), request('GET', '/', [], 'chat'), { open: true, body: 'early ' })
  stream.events!.onData(Buffer.from('too'))
  await until('both are there', () => stream.text === 'behind early too')
  stream.events!.onEnd([], [])
  await until('it is over', () => stream.ended)
})

t.test('either side may end its direction and go on reading', async (t) => {
  const server = await startRawOrigin(t, upgrading((socket) => {
    socket.on('end', () => socket.end('you ended'))
    socket.resume()
  }))
  const first = send(originAt(t, server.port), request('GET', '/', [], 'chat'), { open: true })
  await until('the 101', () => first.head)
  first.events!.onEnd([], [])
  await until('the origin still speaks', () => first.text === 'you ended' && first.ended)
  let heard = ''
  const other = await startRawOrigin(t, upgrading((socket) => {
    socket.end('I ended')
    socket.on('data', (chunk: Buffer) => (heard += chunk.toString('latin1')))
  }))
  const origin = originAt(t, other.port)
  const second = send(origin, request('GET', '/', [], 'chat'), { open: true })
  await until('the origin has ended', () => second.ended)
  t.equal(second.text, 'I ended')
  second.events!.onData(Buffer.from('still here'))
  await until('the origin still hears', () => heard === 'still here')
  t.equal(origin.active, 1)
  second.events!.onEnd([], [])
  await until('it is over', () => origin.active === 0)
})

t.test('an origin that does not agree answers as usual', async (t) => {
  const server = await startRawOrigin(t, replying('HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno'))
  const stream = send(originAt(t, server.port), request('GET', '/', [], 'chat'), { open: true, body: 'early' })
  await until('the answer', () => stream.over)
  t.equal(stream.status, '426')
  t.equal(stream.text, 'no')
  t.same(fieldsOf(stream.head, 'upgrade'), ['other'])
  t.equal(stream.stopped, errors.cancelled)
})

t.test('an origin that goes over to what nobody asked for is refused', async (t) => {
  const server = await startRawOrigin(t, replying('HTTP/1.1 101 x\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n'))
  const stream = send(originAt(t, server.port), request('GET', '/', [], 'chat'), { open: true })
  await until('it failed', () => stream.failure)
  t.equal(stream.failure!.code, errors.origin_protocol)
  await until('the connection is closed', () => server.connections() === 0)
})

t.test('HTTP/2 is never upgraded to', async (t) => {
  let asked = ''
  const server = await startRawOrigin(t, (socket) => socket.once('data', (chunk: Buffer) => {
    asked = chunk.toString('latin1')
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  }))
  t.equal((await ask(originAt(t, server.port), request('GET', '/', [], 'h2c'))).status, '200')
  t.notMatch(asked, /upgrade/i)
})

t.test('a reader that takes nothing bounds what is held of an upgraded connection', async (t) => {
  const server = await startRawOrigin(t, upgrading((socket) => {
    const more = (): void => {
      while (socket.write(Buffer.alloc(65_536))) continue
    }
    socket.on('drain', more)
    more()
  }))
  const stream = send(originAt(t, server.port), request('GET', '/', [], 'chat'), { open: true })
  stream.reading = false
  await until('the queue is full', () => stream.bytes >= 65_536)
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  t.ok(stream.bytes < 512 * 1024, String(stream.bytes))
  stream.events!.onReset(errors.cancelled, true)
})

t.test('a reset of either side reaches the other', async (t) => {
  let sockets: net.Socket[] = []
  const server = await startRawOrigin(t, upgrading((socket) => {
    sockets.push(socket)
    socket.on('end', () => socket.destroy())
    socket.resume()
  }))
  const origin = originAt(t, server.port)
  const first = send(origin, request('GET', '/', [], 'chat'), { open: true })
  await until('the 101', () => first.head)
  first.events!.onReset(errors.cancelled, true)
  await until('the origin is left', () => server.connections() === 0)
  sockets = []
  const second = send(origin, request('GET', '/', [], 'chat'), { open: true })
  await until('the 101', () => second.head !== undefined && sockets.length > 0)
  reset(sockets[0]!)
  await until('the stream is reset', () => second.failure)
  t.equal(second.failure!.code, errors.origin_reset)
  await until('nothing is counted', () => origin.active === 0)
})

t.test('an origin with TLS must show a certificate that is trusted, unless the agent was told otherwise', async (t) => {
  const server = https.createServer({ cert: CERTIFICATE, key: KEY }, (incoming, response) => response.end(`host ${String(incoming.headers.host)}`))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const url = `https://localhost:${String((server.address() as AddressInfo).port)}`
  t.same((await ask(originAt(t, url), request('GET', '/'))).failure, { code: errors.origin_tls, begun: false })
  const trusting = originAt(t, url, { verifyTls: false })
  for (let i = 0; i < 3; i++) t.equal((await ask(trusting, request('GET', '/'))).text, 'host demo.example')
  await trusting.close()
})

t.test('what speaks no TLS is no origin with TLS', async (t) => {
  const server = await startRawOrigin(t, replying('HTTP/1.1 200 OK\r\n\r\n'))
  t.same((await ask(originAt(t, `https://127.0.0.1:${String(server.port)}`), request('GET', '/'))).failure, { code: errors.origin_tls, begun: false })
})

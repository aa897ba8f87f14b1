// Bodies of any size pass in both directions with bounded memory, and one that is not whole never looks whole.
import { createHash } from 'node:crypto'
import net from 'node:net'
import tls from 'node:tls'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { reset } from '../../dev/reset.ts'
import { startOrigin, startRawOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { CERTIFICATE, KEY } from './certificate.ts'
import { originAt, replying } from './origins.ts'
import { ask, fieldsOf, request, type ScriptedStream, send } from './scripted.ts'

const WINDOW_BYTES = 65_536
const CHUNK = Buffer.alloc(16_384, 'x')

/** Sends `total` bytes as credit allows, as the gateway would. */
async function upload(stream: ScriptedStream, total: number): Promise<void> {
  for (let sent = 0; sent < total && !stream.over && stream.stopped === undefined; ) {
    await until('credit', () => sent - stream.consumedBytes < WINDOW_BYTES || stream.over || stream.stopped !== undefined)
    if (stream.over || stream.stopped !== undefined) return
    const bytes = Math.min(CHUNK.length, total - sent)
    stream.events!.onData(CHUNK.subarray(0, bytes))
    sent += bytes
  }
  if (!stream.over) stream.events!.onEnd([], [])
}

t.test('an upload of known length keeps it, one of unknown length is chunked', async (t) => {
  for (const fields of [['Content-Length', '300000'], []]) {
    const server = await startOrigin(t, (incoming, response) => {
      const hash = createHash('sha256')
      incoming.on('data', (chunk: Buffer) => hash.update(chunk))
      incoming.on('end', () => response.end(`${incoming.headers['content-length'] ?? ''} ${incoming.headers['transfer-encoding'] ?? ''} ${hash.digest('hex')}`))
    })
    const stream = send(originAt(t, server.port), request('POST', '/', fields), { open: true })
    await upload(stream, 300_000)
    await until('the answer', () => stream.over)
    const hash = createHash('sha256').update(Buffer.alloc(300_000, 'x')).digest('hex')
    t.equal(stream.text, fields.length > 0 ? `300000  ${hash}` : ` chunked ${hash}`)
    t.equal(stream.consumedBytes, 300_000)
    t.equal(stream.stopped, undefined)
  }
})

t.test('an upload is echoed while it arrives', async (t) => {
  const server = await startOrigin(t, (incoming, response) => incoming.pipe(response))
  const stream = send(originAt(t, server.port), request('POST', '/'), { open: true, body: 'first' })
  await until('the first bytes are back', () => stream.text === 'first')
  await upload(stream, 10_000_000)
  await until('the answer', () => stream.over)
  t.equal(stream.bytes, 10_000_005)
})

t.test('an origin that reads no upload gets what the kernel holds, and no credit beyond', async (t) => {
  const server = await startRawOrigin(t, (socket) => socket.pause())
  const stream = send(originAt(t, server.port), request('POST', '/'), { open: true })
  let sent = 0
  const feed = (): void => {
    for (; sent - stream.consumedBytes < WINDOW_BYTES; sent += CHUNK.length) stream.events!.onData(CHUNK)
  }
  await until('it has begun', () => {
    feed()
    return server.connections() === 1 && stream.consumedBytes > WINDOW_BYTES
  })
  let last = -1
  for (let still = 0; still < 500; still = stream.consumedBytes === last ? still + 1 : 0) {
    last = stream.consumedBytes
    feed()
    await new Promise((resolve) => setImmediate(resolve))
  }
  // Two socket buffers of at most some MB each, as the kernel is set.
  t.ok(stream.consumedBytes < 64 * 1024 * 1024, `${String(stream.consumedBytes)} bytes went out`)
  t.ok(sent - stream.consumedBytes >= WINDOW_BYTES, 'credit is withheld')
  stream.events!.onReset(errors.cancelled, true)
})

t.test('a body that does not fit its Content-Length is a broken request for the origin', async (t) => {
  let seen = ''
  const server = await startRawOrigin(t, (socket) => {
    socket.on('data', (chunk: Buffer) => (seen += chunk.toString('latin1')))
    socket.on('end', () => socket.destroy())
  })
  const origin = originAt(t, server.port)
  const long = send(origin, request('POST', '/', ['Content-Length', '5']), { open: true, body: 'abc' })
  await until('it has begun', () => seen.includes('abc'))
  long.events!.onData(Buffer.from('deGET /smuggled HTTP/1.1\r\n\r\n'))
  t.same(long.failure, { code: errors.bad_request, begun: true })
  await until('the connection is gone', () => server.connections() === 0)
  t.notMatch(seen, /smuggled/)
  const short = send(origin, request('POST', '/', ['Content-Length', '5']), { open: true, body: 'abc' })
  await until('it has begun', () => server.connections() === 1)
  short.events!.onEnd([], [])
  t.same(short.failure?.code, errors.body_incomplete)
  await until('the connection is gone', () => server.connections() === 0)
  const before = server.accepted()
  for (const body of ['abc', 'abcdefghij']) t.equal((await ask(origin, request('POST', '/', ['Content-Length', '5']), { body })).failure?.begun, false)
  t.equal(server.accepted(), before)
})

t.test('an origin that answers before it has read the body is heard, and the rest of the body is stopped', async (t) => {
  for (const status of [413, 200]) {
    const server = await startOrigin(t, (_incoming, response) => {
      response.writeHead(status, { 'Content-Length': '3', Connection: 'close' })
      response.end('no!')
    })
    const stream = send(originAt(t, server.port), request('POST', '/', ['Content-Length', '100000000']), { open: true, body: 'some' })
    await until('the answer', () => stream.over)
    t.equal(stream.status, String(status))
    t.equal(stream.text, 'no!')
    t.equal(stream.stopped, errors.cancelled)
    t.equal(stream.failure, undefined)
  }
})

t.test('a slow reader bounds what is held of a large answer, and gets all of it', async (t) => {
  const total = 10_000_000
  let wrote = 0
  const server = await startOrigin(t, (_incoming, response) => {
    response.writeHead(200, { 'Content-Length': String(total) })
    const more = (): void => {
      while (wrote < total) {
        wrote += CHUNK.length
        if (wrote > total) return void response.end(CHUNK.subarray(0, CHUNK.length - (wrote - total)))
        if (!response.write(CHUNK)) return void response.once('drain', more)
      }
      response.end()
    }
    more()
  })
  const stream = send(originAt(t, server.port), request('GET', '/'))
  stream.reading = false
  let still = 0
  for (let last = -1; still < 20; still = stream.bytes === last ? still + 1 : 0) {
    last = stream.bytes
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.ok(stream.bytes < 512 * 1024, `${String(stream.bytes)} bytes were pushed at a reader that takes none`)
  await until('all of it', () => {
    stream.take()
    stream.chunks = []
    return stream.over
  })
  t.equal(stream.bytes, total)
  t.equal(stream.failure, undefined)
})

t.test('an answer that breaks off is reset, whatever its framing', async (t) => {
  const lengths = ['Content-Length: 10\r\n\r\n12345', 'Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n', 'Transfer-Encoding: chunked\r\n\r\n5\r\n123']
  for (const reply of lengths) {
    const stream = await ask(originAt(t, (await startRawOrigin(t, replying(`HTTP/1.1 200 OK\r\n${reply}`, true))).port), request('GET', '/'))
    t.same(stream.failure, { code: errors.origin_incomplete, begun: true }, reply)
  }
  for (const reply of [...lengths, 'X-Framing: none\r\n\r\n12345', 'Connection: close\r\n\r\n12345']) {
    const server = await startRawOrigin(t, (socket) => socket.once('data', () => socket.write(`HTTP/1.1 200 OK\r\n${reply}`, () => setImmediate(() => reset(socket)))))
    const stream = await ask(originAt(t, server.port), request('GET', '/'))
    t.notOk(stream.ended, `reset: ${reply}`)
    t.equal(stream.failure?.code.fault, 'origin')
  }
})

t.test('an answer that ends with its connection is whole', async (t) => {
  const stream = await ask(originAt(t, (await startRawOrigin(t, replying('HTTP/1.0 200 OK\r\n\r\nall of it', true))).port), request('GET', '/'))
  t.equal(stream.text, 'all of it')
  t.same(fieldsOf(stream.head, 'content-length'), [])
})

for (const secure of [false, true]) {
  t.test(`an answer that ends with its connection comes whole to a slow reader, ${secure ? 'over TLS' : 'in plain'}`, async (t) => {
    const all = Buffer.from(Array.from({ length: 60_000 }, (_, i) => String(i)).join(' '))
    const server = secure ? tls.createServer({ cert: CERTIFICATE, key: KEY }) : net.createServer()
    // Of one length or another the last chunks and the end come in one read, and the reader has no room for all of them.
    let length = all.length
    server.on(secure ? 'secureConnection' : 'connection', (socket: net.Socket) => {
      socket.on('error', () => undefined).once('data', () => socket.end(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), all.subarray(0, length)])))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const { port } = server.address() as net.AddressInfo
    const origin = originAt(t, `${secure ? 'https' : 'http'}://127.0.0.1:${String(port)}`, { verifyTls: false })
    for (; length > all.length - 130_000; length -= 10_007) {
      const stream = send(origin, request('GET', '/'))
      stream.reading = false
      await until('all of it', () => {
        stream.take()
        return stream.over
      })
      t.equal(stream.failure, undefined, `${String(length)} bytes`)
      t.ok(Buffer.concat(stream.chunks).equals(all.subarray(0, length)), 'every byte in its place')
    }
  })
}

t.test('a connection that is closed before an answer is a reset', async (t) => {
  const server = await startRawOrigin(t, (socket) => socket.once('data', () => socket.end()))
  t.same((await ask(originAt(t, server.port), request('GET', '/'))).failure, { code: errors.origin_reset, begun: true })
})

t.test('after a thousand aborts no connection to the origin is left', async (t) => {
  const server = await startRawOrigin(t, (socket) => {
    socket.on('end', () => socket.destroy())
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\nendless'))
  })
  const origin = originAt(t, server.port)
  for (let round = 0; round < 10; round++) {
    const streams = Array.from({ length: 100 }, (_, index) => send(origin, request(index % 2 === 0 ? 'GET' : 'POST', '/'), { open: index % 2 === 1 }))
    // Some are cut while they wait for a connection, some once they are answered.
    if (round % 2 === 0) await until('answers', () => streams.every((stream, index) => index % 2 === 1 || stream.head !== undefined))
    for (const stream of streams) stream.events!.onReset(errors.cancelled, true)
  }
  await until('no connection is left', () => server.connections() === 0)
  await until('nothing is counted', () => origin.active === 0)
})

t.test('so many exchanges at once are given to an origin and no more', async (t) => {
  const server = await startRawOrigin(t, (socket) => void socket.on('end', () => socket.destroy()).resume())
  const origin = originAt(t, server.port)
  const streams = Array.from({ length: 2_048 }, () => send(origin, request('GET', '/')))
  t.same(send(origin, request('GET', '/')).failure, { code: errors.refused, begun: false })
  await until('every connection is there', () => server.connections() === 2_048)
  for (const stream of streams) {
    t.equal(stream.failure, undefined)
    stream.events!.onReset(errors.cancelled, true)
  }
  await until('nothing is left', () => origin.active === 0 && server.connections() === 0)
  t.equal(send(origin, request('GET', '/')).failure, undefined)
})

t.test('a STOP of the answer leaves the origin', async (t) => {
  const server = await startRawOrigin(t, replying('HTTP/1.1 200 OK\r\n\r\nendless'))
  const stream = send(originAt(t, server.port), request('GET', '/'))
  await until('it is answered', () => stream.head)
  stream.events!.onStop(errors.cancelled)
  await until('no connection is left', () => server.connections() === 0)
})

t.test('why there is no connection is told, and nothing was begun', async (t) => {
  const free = net.createServer()
  await new Promise<void>((resolve) => free.listen(0, '127.0.0.1', resolve))
  const { port } = free.address() as net.AddressInfo
  await new Promise((resolve) => free.close(resolve))
  const cases: readonly (readonly [string | number, keyof typeof errors])[] = [[port, 'origin_refused'], ['unix:/nowhere/o.sock', 'origin_refused'], ['nowhere.invalid:80', 'origin_unknown']]
  for (const [target, code] of cases) {
    const told: string[] = []
    const origin = originAt(t, target, { onTrouble: (each) => told.push(each.name) })
    t.same((await ask(origin, request('POST', '/'), { body: 'x' })).failure, { code: errors[code], begun: false }, String(target))
    t.same(told, [code])
    t.equal(origin.active, 0)
  }
})

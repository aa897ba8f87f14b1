// The relay of the tests does what it says: else tests of faults would prove nothing.
import net from 'node:net'
import t from 'tap'
import { startLink } from './link.ts'
import { startRawOrigin } from './origin.ts'
import { until } from './until.ts'

/** Sends `bytes` with a half-close to an echoing origin through a link; gives what came back. */
async function echo(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.end(bytes)
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

const bytes = Buffer.from(Array.from({ length: 20_000 }, (_, index) => index % 251))

t.test('tiny delayed pieces arrive whole and in order, with the half-close', async (t) => {
  const origin = await startRawOrigin(t, (socket) => socket.pipe(socket))
  const link = await startLink(t, { target: origin.port, pieceMaxBytes: 200, delayMs: 3, seed: 7 })
  t.ok((await echo(link.port, bytes)).equals(bytes))
})

t.test('a connection is reset after as many bytes as the seed says', async (t) => {
  async function passedBeforeCut(seed: number): Promise<number> {
    let passed = 0
    const origin = await startRawOrigin(t, (socket) => {
      socket.on('data', (chunk: Buffer) => (passed += chunk.length))
    })
    const link = await startLink(t, { target: origin.port, cutBetweenBytes: [1_000, 9_000], seed, pieceMaxBytes: 100 })
    await t.rejects(echo(link.port, bytes), { code: 'ECONNRESET' })
    await until('both ends are gone', () => link.connections() === 0)
    return passed
  }
  const first = await passedBeforeCut(5)
  t.ok(first > 0 && first <= 9_000, `${String(first)} bytes passed`)
})

t.test('a stalled link holds the bytes and gives them on when it resumes', async (t) => {
  let received = 0
  const origin = await startRawOrigin(t, (socket) => {
    socket.on('data', (chunk: Buffer) => (received += chunk.length))
    socket.on('end', () => socket.end('whole'))
  })
  const link = await startLink(t, { target: origin.port })
  link.stall()
  const answer = echo(link.port, bytes)
  await until('the link accepted', () => link.connections() === 1)
  t.equal(received, 0)
  link.resume()
  t.equal((await answer).toString(), 'whole')
  t.equal(received, bytes.length)
})

t.test('a black hole lets neither bytes nor ends through, and heals for new connections', async (t) => {
  let received = 0
  const origin = await startRawOrigin(t, (socket) => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length
      socket.write(chunk)
    })
    socket.on('end', () => socket.end())
  })
  const link = await startLink(t, { target: origin.port })
  const socket = net.connect({ port: link.port, host: '127.0.0.1' })
  socket.on('error', () => undefined)
  await new Promise((resolve) => {
    socket.once('data', resolve)
    socket.write('before')
  })
  link.blackHole()
  socket.write('lost')
  link.heal()
  t.ok((await echo(link.port, bytes)).equals(bytes))
  t.equal(received, 'before'.length + bytes.length)
  socket.destroy()
})

t.test('a cut resets both ends', async (t) => {
  const origin = await startRawOrigin(t, (socket) => socket.resume())
  const link = await startLink(t, { target: origin.port })
  const socket = net.connect({ port: link.port, host: '127.0.0.1' })
  await until('it is through', () => origin.connections() === 1)
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve))
  link.cut()
  t.equal((await failed).code, 'ECONNRESET')
  await until('the origin sees it too', () => origin.connections() === 0)
})

t.test('what is forbidden is reset before a byte of it is through', async (t) => {
  let received = 0
  const origin = await startRawOrigin(t, (socket) => {
    socket.on('data', (chunk) => (received += chunk.length))
    socket.on('end', () => socket.end())
  })
  const link = await startLink(t, { target: origin.port })
  link.forbid(/^GET/)
  const socket = net.connect({ port: link.port, host: '127.0.0.1' })
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve))
  socket.write('GET / HTTP/1.1')
  t.equal((await failed).code, 'ECONNRESET')
  await until('nothing is left of it', () => link.connections() === 0 && origin.connections() === 0)
  t.equal(received, 0)
  link.forbid(undefined)
  const other = net.connect({ port: link.port, host: '127.0.0.1' })
  other.write('GET / HTTP/1.1')
  await until('it is through', () => received > 0)
  other.destroy()
})

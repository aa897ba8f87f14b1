// The agent's end of the http2 channel: each answer that is no gateway's is told for what it is, at once, and a dial that is given up leaves nothing.
import { once } from 'node:events'
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2'
import net, { type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { dialHttp2 } from '../../agent/http2.ts'
import { HTTP2_GREETING } from '../../protocol/http2-socket.ts'
import { until } from '../harness/until.ts'

/** What a dial comes to; of a channel, why it closed and what came over it before. */
function outcome(port: number): Promise<string> {
  return new Promise((resolve) => {
    dialHttp2({ gateway: `http://127.0.0.1:${String(port)}/behind`, userAgent: 'test/1' }, (told) => {
      if ('reason' in told) return resolve(`${told.reason}: ${told.detail}`)
      const messages: string[] = []
      told.onMessage = (message) => messages.push(message.toString())
      told.onClosed = (why) => resolve(`closed after [${messages.join()}]: ${why}`)
    })
  })
}

async function http2Server(t: Test, answer: (stream: ServerHttp2Stream, headers: Record<string, unknown>) => void): Promise<number> {
  const server = createHttp2()
  const sessions = new Set<{ destroy(): void }>()
  server.on('session', (session) => sessions.add(session))
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    answer(stream as ServerHttp2Stream, headers)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const session of sessions) session.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

async function rawServer(t: Test, talk: (socket: net.Socket) => void): Promise<number> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    talk(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

t.test('it asks with one request, below the prefix of the gateway’s URL', async (t) => {
  let asked: Record<string, unknown> = {}
  const port = await http2Server(t, (stream, headers) => {
    asked = headers
    stream.respond({ ':status': 404 }, { endStream: true })
  })
  await outcome(port)
  t.match(asked, { ':method': 'POST', ':path': '/behind/_postern/channel/h2', ':scheme': 'http', 'user-agent': 'test/1' })
})

t.test('an answer that is no channel is told for what it is', async (t) => {
  const cases: readonly (readonly [Record<string, string | number>, string])[] = [
    [{ ':status': 404 }, 'http: no gateway answers there (HTTP 404)'],
    [{ ':status': 503 }, 'unreachable: the gateway is away (HTTP 503)'],
    [{ ':status': 301, location: 'https://elsewhere.test/' }, 'http: redirected to https://elsewhere.test/; redirects are not followed'],
    [{ ':status': 204 }, 'http: no gateway answers there (HTTP 204)'],
  ]
  for (const [headers, says] of cases) t.equal(await outcome(await http2Server(t, (stream) => stream.respond(headers, { endStream: true }))), says)
  t.match(await outcome(await http2Server(t, (stream) => stream.close(11))), /^unreachable: 127\.0\.0\.1:\d+: .*ENHANCE_YOUR_CALM/)
  t.match(await outcome(await http2Server(t, (stream) => stream.session!.destroy())), /^unreachable: /)
})

t.test('whoever speaks no HTTP/2 is told from one who is not there', async (t) => {
  const says = 'http: what answers there speaks no HTTP/2'
  t.equal(await outcome(await rawServer(t, (socket) => socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'))), says)
  t.equal(await outcome(await rawServer(t, (socket) => socket.once('data', () => socket.destroy()))), says)
  t.equal(await outcome(await rawServer(t, (socket) => socket.once('data', () => socket.write('SSH-2.0-OpenSSH_9.2\r\n')))), says)
  const gone = net.createServer().listen(0, '127.0.0.1')
  await once(gone, 'listening')
  const { port } = gone.address() as AddressInfo
  gone.close()
  t.match(await outcome(port), /^unreachable: .*ECONNREFUSED/)
})

t.test('what comes after the greeting is messages, however it is cut, and anything else closes the channel', async (t) => {
  const hello = Buffer.concat([Buffer.of(0, 0, 5), Buffer.from('hello')])
  const answer = (chunks: readonly Buffer[]) => (stream: ServerHttp2Stream): void => {
    stream.respond({ ':status': 200 })
    for (const chunk of chunks) stream.write(chunk)
    stream.end()
  }
  const whole = Buffer.concat([HTTP2_GREETING, hello])
  t.equal(await outcome(await http2Server(t, answer([whole]))), 'closed after [hello]: the peer closed the connection')
  t.equal(await outcome(await http2Server(t, answer([...whole].map((byte) => Buffer.of(byte))))), 'closed after [hello]: the peer closed the connection')
  t.match(await outcome(await http2Server(t, answer([Buffer.from('<html>a page, not a gateway</html>')]))), /^closed after \[\]: a message of \d+ bytes$/)
})

t.test('a dial that is given up is forgotten by both ends', async (t) => {
  let open = 0
  const port = await http2Server(t, (stream) => {
    open++
    stream.on('close', () => open--)
  })
  let told = 0
  const cancel = dialHttp2({ gateway: `http://127.0.0.1:${String(port)}`, userAgent: 'test' }, () => told++)
  await until('it asked', () => open === 1)
  cancel()
  await until('the gateway sees it go', () => open === 0)
  t.equal(told, 0)
})

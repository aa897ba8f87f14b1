// An origin that breaks HTTP breaks only its own answer (threat 37).
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { startRawOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { originAt, replying } from './origins.ts'
import { ask, request } from './scripted.ts'

const OK = 'HTTP/1.1 200 OK\r\n'
const many = (count: number): string => Array.from({ length: count }, (_, index) => `X-${String(index)}: v\r\n`).join('')

/** A reply, and the code that it ends in. */
const REPLIES: readonly (readonly [string, string, readonly (keyof typeof errors)[]])[] = [
  ['no HTTP at all', 'hello\r\n\r\n', ['origin_protocol']],
  ['TLS', '\x15\x03\x01\x00\x02\x02\x28', ['origin_protocol']],
  ['an ssh banner', 'SSH-2.0-OpenSSH_9.2\r\n', ['origin_protocol']],
  ['HTTP/2', '\x00\x00\x12\x04\x00\x00\x00\x00\x00', ['origin_protocol']],
  ['HTTP/9.9', 'HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n', ['origin_protocol']],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n', ['origin_protocol']],
  ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n', ['origin_protocol']],
  ['a status that is none', 'HTTP/1.1 abc OK\r\n\r\n', ['origin_protocol']],
  ['two different lengths', `${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`, ['origin_protocol']],
  ['two equal lengths', `${OK}Content-Length: 2\r\nContent-Length: 2\r\n\r\nab`, ['origin_protocol']],
  ['a length and chunks', `${OK}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n`, ['origin_protocol']],
  ['a negative length', `${OK}Content-Length: -1\r\n\r\n`, ['origin_protocol']],
  ['a length in hexadecimal', `${OK}Content-Length: 0x2\r\n\r\nab`, ['origin_protocol']],
  ['a length beyond 64 bits', `${OK}Content-Length: 99999999999999999999999\r\n\r\nab`, ['origin_protocol']],
  ['a space before the colon', `${OK}Content-Length : 2\r\n\r\nab`, ['origin_protocol']],
  ['a field without a name', `${OK}: v\r\n\r\n`, ['origin_protocol']],
  ['a space in a name', `${OK}a b: v\r\n\r\n`, ['origin_protocol']],
  ['a folded value', `${OK}X: a\r\n b\r\nContent-Length: 0\r\n\r\n`, ['origin_protocol']],
  ['NUL in a value', `${OK}X: a\0b\r\nContent-Length: 0\r\n\r\n`, ['origin_protocol']],
  ['a bare CR in a value', `${OK}X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n`, ['origin_protocol']],
  ['a chunk size that is none', `${OK}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, ['origin_incomplete']],
  ['a chunk size of 17 digits', `${OK}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n`, ['origin_incomplete']],
  ['a chunk longer than it says', `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n`, ['origin_incomplete']],
  ['a length in the trailers', `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n`, ['origin_incomplete']],
  ['101 unasked', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n', ['origin_protocol']],
  ['101 without its fields', 'HTTP/1.1 101 Switching Protocols\r\n\r\n', ['origin_protocol']],
  ['a storm of interim answers', 'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n'.repeat(100), ['origin_protocol']],
  ['a head of 70 KiB', `${OK}X: ${'a'.repeat(70_000)}\r\n\r\n`, ['origin_head_too_large']],
  ['101 fields', `${OK}${many(101)}Content-Length: 0\r\n\r\n`, ['origin_head_too_large']],
  ['5000 fields', `${OK}${many(5000)}Content-Length: 0\r\n\r\n`, ['origin_head_too_large']],
]

for (const [name, reply, codes] of REPLIES) {
  t.test(`${name} is refused and the connection closed`, async (t) => {
    const server = await startRawOrigin(t, replying(reply))
    const stream = await ask(originAt(t, server.port), request('GET', '/'))
    t.notOk(stream.ended)
    t.ok(codes.some((code) => errors[code] === stream.failure?.code), String(stream.failure?.code.name))
    await until('the connection is closed', () => server.connections() === 0)
  })
}

t.test('what comes after an answer is nobody else\'s answer', async (t) => {
  const server = await startRawOrigin(t, (socket) => {
    socket.on('end', () => socket.destroy())
    let requests = 0
    socket.on('data', (chunk: Buffer) => {
      requests++
      const path = /^GET (\S+)/.exec(chunk.toString('latin1'))?.[1] ?? '?'
      socket.write(`${OK}Content-Length: ${String(path.length)}\r\n\r\n${path}${requests === 1 ? `${OK}Content-Length: 6\r\n\r\nPOISON` : ''}`)
    })
  })
  const origin = originAt(t, server.port)
  for (const path of ['/a', '/bb', '/ccc']) t.equal((await ask(origin, request('GET', path))).text, path)
})

t.test('bodies where none may be are nobody else\'s answer', async (t) => {
  const poison = `${OK}Content-Length: 6\r\n\r\nPOISON`
  const cases = [
    ['HEAD', `${OK}Content-Length: 6\r\n\r\n${poison}`],
    ['GET', `HTTP/1.1 204 x\r\nContent-Length: 9\r\n\r\n${poison}`],
    ['GET', `HTTP/1.1 304 x\r\n\r\n${poison}`],
  ] as const
  for (const [method, reply] of cases) {
    const server = await startRawOrigin(t, (socket) => {
      socket.on('end', () => socket.destroy())
      socket.on('data', (chunk: Buffer) => socket.write(chunk.includes('/next') ? `${OK}Content-Length: 4\r\n\r\nnext` : reply))
    })
    const origin = originAt(t, server.port)
    t.equal((await ask(origin, request(method, '/'))).bytes, 0)
    t.equal((await ask(origin, request('GET', '/next'))).text, 'next')
  }
})

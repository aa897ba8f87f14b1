// An answer means the same however its bytes are cut, and a kept connection that the origin closes meanwhile costs nobody an answer.
import t from 'tap'
import { AnswerReader } from '../../agent/answer-reader.ts'
import { startRawOrigin } from '../harness/origin.ts'
import { Random } from '../protocol/simulation.ts'
import { originAt } from './origins.ts'
import { ask, request } from './scripted.ts'

const REPLIES: readonly (readonly [string, string, boolean])[] = [
  ['a length', 'HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello', true],
  ['no body', 'HTTP/1.1 204 No Content\r\n\r\n', true],
  ['length zero', 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n', true],
  ['chunks, an extension and trailers', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 6\r\nY:z\r\n\r\n', true],
  ['chunks without trailers', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n', true],
  ['interim heads', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx', true],
  ['the end of the connection', 'HTTP/1.1 200 OK\r\n\r\nuntil the end', false],
  ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab', false],
  ['Connection: close', 'HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 2\r\n\r\nab', false],
]

function read(pieces: readonly Buffer[]): { told: string; keeps: boolean } {
  const told: string[] = []
  let body = ''
  const reader = new AnswerReader(
    {
      answerHead: (status, fields) => told.push(`${String(status)} ${fields.join('|')}`),
      answerData: (chunk) => (body += chunk.toString('latin1')),
      answerEnd: (trailers) => told.push(`${body} end ${trailers.join('|')}`),
    },
    false,
  )
  for (const piece of pieces) reader.push(piece)
  const keeps = reader.keeps && reader.over
  if (!reader.over) reader.closed()
  return { told: told.join('\n'), keeps }
}

for (const [name, reply, keeps] of REPLIES) {
  t.test(`${name}: whole, byte by byte and at random cuts the same`, (t) => {
    const bytes = Buffer.from(reply, 'latin1')
    const whole = read([bytes])
    t.match(whole.told, /end/)
    t.equal(whole.keeps, keeps)
    t.same(read([...bytes].map((byte) => Buffer.of(byte))), whole)
    const random = new Random(1)
    for (let round = 0; round < 100; round++) {
      const pieces: Buffer[] = []
      for (let at = 0; at < bytes.length; ) {
        const next = at + 1 + random.below(12)
        pieces.push(bytes.subarray(at, next))
        at = next
      }
      t.same(read(pieces), whole)
    }
    t.end()
  })
}

t.test('of a value only spaces and tabs around it are taken, and a line that is no field is refused', (t) => {
  const head = (lines: string): string => read([Buffer.from(`HTTP/1.1 200 OK\r\n${lines}Content-Length: 0\r\n\r\n`, 'latin1')]).told.split('\n')[0]!
  t.equal(head('A: \t b c\t \r\nB:\r\nC:\xa0d\xa0\r\n'), '200 A|b c|B||C|\xa0d\xa0|Content-Length|0')
  for (const lines of ['no colon\r\n', ': no name\r\n']) t.throws(() => head(lines), /no field/)
  t.end()
})

t.test('a kept connection that the origin closes as the next request leaves costs a GET nothing, and a POST is not sent twice', async (t) => {
  let requests = 0
  const server = await startRawOrigin(t, (socket) => {
    let served = 0
    socket.on('error', () => undefined)
    socket.on('data', () => {
      requests++
      if (served++ === 0) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      else socket.destroy()
    })
  })
  const origin = originAt(t, server.port)
  for (let i = 0; i < 5; i++) t.equal((await ask(origin, request('GET', '/'))).text, 'ok')
  const before = requests
  const post = await ask(origin, request('POST', '/'))
  t.equal(post.failure?.code.name, 'origin_reset')
  t.equal(requests, before + 1)
})

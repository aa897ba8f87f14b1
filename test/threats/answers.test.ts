// Threats 37 and 38: what a hostile origin says reaches its own visitor alone, as one answer or as 502, and never looks whole when it is not.
import net from 'node:net'
import t from 'tap'
import { startRawOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { HOST, visit } from '../system/visitor.ts'
import { startWorld } from '../system/world.ts'

const OK = 'HTTP/1.1 200 OK\r\n'
const POISON = `${OK}Content-Length: 6\r\n\r\nPOISON`

interface Reply {
  readonly says: string
  readonly method?: string
  readonly upgrade?: boolean
  /** It closes behind it. */
  readonly closes?: boolean
  /** Status, and body as the visitor gets it; `broken`: the visitor sees that it is not whole. */
  readonly is: string
}

const REPLIES: Readonly<Record<string, Reply>> = {
  'plain': { says: `${OK}Content-Length: 2\r\n\r\nok`, is: '200 ok' },
  'two answers': { says: `${OK}Content-Length: 2\r\n\r\nok${POISON}`, is: '200 ok' },
  'more body than its length': { says: `${OK}Content-Length: 2\r\n\r\nokPOISON`, is: '200 ok' },
  'less body than its length': { says: `${OK}Content-Length: 20\r\n\r\nok`, closes: true, is: '200 broken' },
  'two lengths that differ': { says: `${OK}Content-Length: 2\r\nContent-Length: 8\r\n\r\nokPOISON`, is: '502' },
  'a list of lengths': { says: `${OK}Content-Length: 2, 8\r\n\r\nokPOISON`, is: '502' },
  'a signed length': { says: `${OK}Content-Length: +2\r\n\r\nok`, is: '502' },
  'a negative length': { says: `${OK}Content-Length: -2\r\n\r\nok`, is: '502' },
  'chunked and a length': { says: `${OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${POISON}`, is: '502' },
  'an unknown encoding': { says: `${OK}Transfer-Encoding: cow\r\n\r\nok`, closes: true, is: '502' },
  'a chunk without its end': { says: `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n`, closes: true, is: '200 broken' },
  'a chunk of a wrong size': { says: `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n`, is: '200 broken' },
  'chunks, then an answer': { says: `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${POISON}`, is: '200 ok' },
  'until it closes': { says: `${OK}\r\nok`, closes: true, is: '200 ok' },
  '204 with a body': { says: `HTTP/1.1 204 No\r\nContent-Length: 6\r\n\r\nPOISON`, is: '204 ' },
  '204 with an answer behind it': { says: `HTTP/1.1 204 No\r\n\r\n${POISON}`, is: '204 ' },
  '304 with a body': { says: `HTTP/1.1 304 No\r\nContent-Length: 6\r\n\r\nPOISON`, is: '304 ' },
  'HEAD with a body': { method: 'HEAD', says: POISON, is: '200 ' },
  '102 and 103 before': { says: `HTTP/1.1 102 P\r\nX: y\r\n\r\nHTTP/1.1 103 E\r\nLink: <a>\r\n\r\n${OK}Content-Length: 2\r\n\r\nok`, is: '200 ok' },
  'a storm of 103': { says: 'HTTP/1.1 103 E\r\nLink: <a>\r\n\r\n'.repeat(10_000) + POISON, is: '502' },
  'an interim answer and no more': { says: 'HTTP/1.1 103 E\r\n\r\n', closes: true, is: '502' },
  '101 unasked': { says: 'HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nPOISON', is: '502' },
  '101 to what was not asked': { upgrade: true, says: 'HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nPOISON', is: '502' },
  'a body before 101': { upgrade: true, says: `${OK}Content-Length: 2\r\n\r\nokHTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nPOISON`, is: '200 ok' },
  'an upgrade refused, an answer behind it': { upgrade: true, says: `HTTP/1.1 403 F\r\nContent-Length: 2\r\n\r\nno${POISON}`, is: '403 no' },
  'a status of 99': { says: 'HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n', is: '502' },
  'a status of 1000': { says: 'HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n', is: '502' },
  'no HTTP': { says: 'SSH-2.0-OpenSSH_9\r\n', closes: true, is: '502' },
  'HTTP/0.9': { says: 'POISON', closes: true, is: '502' },
  'HTTP/3': { says: 'HTTP/3 200 OK\r\nContent-Length: 2\r\n\r\nok', is: '502' },
  'a name with a blank': { says: `${OK}A : b\r\nContent-Length: 2\r\n\r\nok`, is: '502' },
  'a field with NUL': { says: `${OK}A: \0\r\nContent-Length: 2\r\n\r\nok`, is: '502' },
  'a field with a bare CR': { says: `${OK}A: b\rSet-Cookie: c\r\nContent-Length: 2\r\n\r\nok`, is: '502' },
  'a head of 70 kB': { says: `${OK}A: ${'x'.repeat(70_000)}\r\nContent-Length: 2\r\n\r\nok`, is: '502' },
  'nothing': { says: '', closes: true, is: '502' },
  'trailers that frame': { says: `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n`, is: '200 broken' },
}

/** The first answer of a text: its status, its body as its framing has it, and what stands behind it. */
function firstAnswer(text: string, method: string): { is: string; rest: string } {
  const end = text.indexOf('\r\n\r\n') + 4
  const head = text.slice(0, end)
  const status = /^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 'none'
  let rest = text.slice(end)
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(head)?.[1]
  if (method === 'HEAD' || status === '204' || status === '304') return { is: `${status} `, rest }
  if (length !== undefined) return rest.length < Number(length) ? { is: `${status} broken`, rest: '' } : { is: `${status} ${rest.slice(0, Number(length))}`, rest: rest.slice(Number(length)) }
  let body = ''
  for (;;) {
    const size = /^([0-9a-f]+)\r\n/i.exec(rest)
    if (size === null) return { is: `${status} broken`, rest: '' }
    const bytes = parseInt(size[1]!, 16)
    rest = rest.slice(size[0].length)
    body += rest.slice(0, bytes)
    rest = rest.slice(bytes + 2)
    if (bytes === 0) return { is: `${status} ${body}`, rest }
  }
}

const NEXT = `${OK}Content-Length: 4\r\n\r\nnext`
const origin = await startRawOrigin(t, (socket) => {
  socket.on('end', () => socket.destroy())
  socket.on('data', (chunk: Buffer) => {
    const asked = /^[A-Z]+ \/(\S*)/.exec(chunk.toString('latin1'))?.[1]
    if (asked === undefined) return
    const reply = REPLIES[decodeURIComponent(asked)]
    if (reply?.closes === true) socket.end(reply.says, 'latin1')
    else socket.write(reply?.says ?? NEXT, 'latin1')
  })
})
const world = await startWorld(t, { target: origin.url, expected: [/upstream prematurely closed|upstream rejected|upstream sent/] })

for (const [name, { method = 'GET', upgrade = false, is }] of Object.entries(REPLIES)) {
  t.test(`an origin that says: ${name}`, async (t) => {
    const socket = net.connect(world.port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    let text = ''
    let closed = false
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1'))).on('error', () => undefined).on('close', () => (closed = true))
    const wants = upgrade ? 'Connection: upgrade\r\nUpgrade: websocket\r\n' : ''
    // The second is on its way before the first is answered: a visitor's own connection is not to mix them either.
    socket.write(`${method} /${encodeURIComponent(name)} HTTP/1.1\r\nHost: ${HOST}\r\n${wants}\r\n`)
    if (!upgrade) socket.write(`GET /next HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`)
    await until('the end', () => closed || (upgrade && text.includes('\r\n\r\n')), { logs: () => text })
    const first = firstAnswer(text, method)
    // What breaks right behind its head may break before nginx has passed the head on: then it is a 502.
    const right = (is.endsWith('broken') && first.is.startsWith('502')) || (is.includes(' ') ? first.is === is : first.is.startsWith(is))
    t.ok(right, `${is}: ${text.slice(0, 300)}`)
    t.notMatch(text, /POISON|Set-Cookie/)
    if (!is.endsWith('broken') && !upgrade) t.equal(firstAnswer(first.rest, 'GET').is, '200 next')
  })
}

t.test('after all that, a hundred requests on many connections get their own answers', async (t) => {
  const answers = await Promise.all(Array.from({ length: 100 }, () => visit({ port: world.port, path: '/next' })))
  t.same(answers.map(({ body }) => body.toString()), Array.from({ length: 100 }, () => 'next'))
})

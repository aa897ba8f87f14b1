// Threat 1: one request in is at most one at the origin, or 400 and the end of the connection; what follows is answered by its own answer.
import net from 'node:net'
import t from 'tap'
import { missing } from '../harness/nginx.ts'
import { until } from '../harness/until.ts'
import { DATA, END_HEADERS, END_STREAM, field, frame, HEADERS, RawH2 } from '../sidecar/h2-frames.ts'
import { HOST, visit } from '../system/visitor.ts'
import { startWorld } from '../system/world.ts'

const INNER = `GET /smuggled HTTP/1.1\r\nHost: ${HOST}\r\nX: `
const AS_CHUNK = `${INNER.length.toString(16)}\r\n${INNER}\r\n`
const NEXT = `GET /next HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`

/** A request whose fields are these lines, each with its own end. */
const post = (lines: string, body: string, method = 'POST'): string => `${method} /first HTTP/1.1\r\nHost: ${HOST}\r\n${lines}\r\n${body}`
const length = (text: string): string => `Content-Length: ${String(text.length)}\r\n`

/** The public lists: what a front and a back end have been found to read in two ways. */
const TRICKS: Readonly<Record<string, string>> = {
  'CL.TE': post(`${length(`0\r\n\r\n${INNER}`)}Transfer-Encoding: chunked\r\n`, `0\r\n\r\n${INNER}`),
  'TE.CL': post('Transfer-Encoding: chunked\r\nContent-Length: 4\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'CL.0': post(length(INNER), INNER),
  'CL.0 with GET': post(length(INNER), INNER, 'GET'),
  'CL.0 with HEAD': post(length(INNER), INNER, 'HEAD'),
  'CL.0 with OPTIONS': post(length(INNER), INNER, 'OPTIONS'),
  'CL.0 kept alive': post(`Connection: keep-alive\r\n${length(INNER)}`, INNER),
  'CL.0 that Connection names': post(`Connection: Content-Length\r\n${length(INNER)}`, INNER),
  'TE.0': post('Transfer-Encoding: chunked\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'TE.0 with GET': post('Transfer-Encoding: chunked\r\n', `${AS_CHUNK}0\r\n\r\n`, 'GET'),
  'TE.0 that Connection names': post('Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'CL.CL': post(`Content-Length: 0\r\n${length(INNER)}`, INNER),
  'CL.CL the other way': post(`${length(INNER)}Content-Length: 0\r\n`, INNER),
  'a list of lengths': post(`Content-Length: 0, ${String(INNER.length)}\r\n`, INNER),
  'a signed length': post(`Content-Length: +${String(INNER.length)}\r\n`, INNER),
  'a negative length': post('Content-Length: -1\r\n', INNER),
  'a hexadecimal length': post('Content-Length: 0x10\r\n', INNER),
  'a length with a blank in it': post('Content-Length: 0 1\r\n', INNER),
  'a length above 2^64': post('Content-Length: 18446744073709551616\r\n', INNER),
  'an empty length': post('Content-Length: \r\n', INNER),
  'Content_Length': post(`Content_Length: ${String(INNER.length)}\r\nContent-Length: 0\r\n`, ''),
  'TE: xchunked': post(`Transfer-Encoding: xchunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE: chunked, identity': post('Transfer-Encoding: chunked, identity\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'TE: identity, chunked': post('Transfer-Encoding: identity, chunked\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'TE: gzip, chunked': post('Transfer-Encoding: gzip, chunked\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'TE twice': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'TE twice, one false': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'TE with a tab': post(`Transfer-Encoding:\tchunked\r\n${length('0\r\n\r\n')}`, '0\r\n\r\n'),
  'TE with a vertical tab': post(`Transfer-Encoding:\x0bchunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE with a form feed': post(`Transfer-Encoding: \x0cchunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE with NUL': post(`Transfer-Encoding: chunked\0\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE quoted': post(`Transfer-Encoding: "chunked"\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE with a parameter': post(`Transfer-Encoding: chunked;q=1\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE with a blank before the colon': post(`Transfer-Encoding : chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE behind a blank': post(` Transfer-Encoding: chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE folded': post(`Transfer-Encoding:\r\n chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE folded into another': post(`X: y\r\n Transfer-Encoding: chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE with an underscore': post(`Transfer_Encoding: chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE in capitals': post('TRANSFER-ENCODING: CHUNKED\r\n', `${AS_CHUNK}0\r\n\r\n`),
  'TE behind a bare LF': post(`X: y\nTransfer-Encoding: chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'TE behind a bare CR': post(`X: y\rTransfer-Encoding: chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK),
  'a length behind a bare CR': post(`X: y\rContent-Length: 0\r\n${length(INNER)}`, INNER),
  'TE in HTTP/1.0': post(`Transfer-Encoding: chunked\r\n${length(AS_CHUNK)}`, AS_CHUNK).replace('HTTP/1.1', 'HTTP/1.0'),
  'a chunk with an extension': post('Transfer-Encoding: chunked\r\n', `${INNER.length.toString(16)};x=y\r\n${INNER}\r\n0\r\n\r\n`),
  'a chunk’s extension with a bare LF': post('Transfer-Encoding: chunked\r\n', `1;x\nA\r\n0\r\n\r\n${INNER}`),
  'a chunk’s size with 0x': post('Transfer-Encoding: chunked\r\n', `0x1\r\nA\r\n0\r\n\r\n`),
  'a chunk’s size that overflows': post('Transfer-Encoding: chunked\r\n', `10000000000000001\r\nA\r\n0\r\n\r\n`),
  'a negative chunk': post('Transfer-Encoding: chunked\r\n', `-1\r\nA\r\n0\r\n\r\n`),
  'a chunk longer than its size': post('Transfer-Encoding: chunked\r\n', `1\r\nAB\r\n0\r\n\r\n`),
  'trailers that frame': post('Transfer-Encoding: chunked\r\n', `1\r\nA\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n`),
  'bare LF all through': post(length(INNER), INNER).replaceAll('\r\n', '\n'),
  'an empty line first': `\r\n${post('Content-Length: 1\r\n', 'A')}`,
  'Expect with a body': post(`Expect: 100-continue\r\n${length(INNER)}`, INNER),
  'Expect of something else': post(`Expect: y 100-continue\r\n${length(INNER)}`, INNER),
  'a request line in the path': post('', '').replace('/first', `/first%20HTTP/1.1%0d%0aX:%20y`),
  'two blanks in the request line': post('', '').replace('/first', '/first HTTP/1.1 HTTP/1.1').replace('HTTP/1.1 HTTP/1.1 HTTP/1.1', 'HTTP/1.1 x HTTP/1.1'),
  'an upgrade with a request behind it': post('Connection: upgrade\r\nUpgrade: websocket\r\n', INNER, 'GET'),
  'h2c with a request behind it': post(`Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n${length(INNER)}`, INNER),
}

/** Of these two requests are meant, and two are to arrive. */
const PIPELINED: Readonly<Record<string, string>> = {
  'two GETs': `${post('', '', 'GET')}GET /second HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`,
  'a POST and a GET': `${post('Content-Length: 3\r\n', 'abc')}GET /second HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`,
  'a chunked POST and a GET': `${post('Transfer-Encoding: chunked\r\n', '3\r\nabc\r\n0\r\n\r\n')}GET /second HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`,
}

for (const binary of ['debian', 'new'] as const) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    const seen: string[] = []
    const world = await startWorld(t, {
      binary,
      handler: (request, response) => {
        const name = `${String(seen.length)} ${request.method!} ${request.url!}`
        seen.push(name)
        response.setHeader('Seen', name)
        request.on('end', () => response.end('answer')).resume()
      },
      expected: [/upstream rejected request with error|upstream prematurely closed|client sent invalid|client intended to send/],
    })

    /** What came back until nginx closed: all of it, and which requests of the origin's it answers. */
    const send = async (bytes: string): Promise<{ text: string; answered: string[] }> => {
      const socket = net.connect(world.port, '127.0.0.1', () => socket.write(bytes, 'latin1'))
      let text = ''
      let closed = false
      socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1'))).on('error', () => undefined).on('close', () => (closed = true))
      t.teardown(() => socket.destroy())
      await until('nginx closed', () => closed, { logs: () => `${bytes}\n---\n${text}` })
      return { text, answered: [...text.matchAll(/\r\nseen: (.*)\r\n/gi)].map((match) => match[1]!) }
    }
    const canary = async (t: { equal(a: unknown, b: unknown, what: string): unknown }, name: string): Promise<void> => {
      const answer = await visit({ port: world.port, path: `/canary/${encodeURIComponent(name)}` })
      t.equal(answer.headers['seen'], `${String(seen.length - 1)} GET /canary/${encodeURIComponent(name)}`, `${name}: a canary is answered by itself`)
    }

    for (const [name, bytes] of Object.entries(TRICKS)) {
      await t.test(name, async (t) => {
        seen.length = 0
        const { text, answered } = await send(bytes + NEXT)
        t.same(answered, seen, 'each request at the origin is one that the visitor has an answer of')
        t.ok(seen.length <= 2, 'no more than two')
        t.notOk(seen.some((one) => one.includes('smuggled')), `nothing is smuggled: ${seen.join()}`)
        if (seen.at(-1)?.endsWith('GET /next') !== true) t.match(text, /(^|answer)HTTP\/1\.[01] [45]\d\d [^]*$/, 'or it was refused and the connection ended')
        await canary(t, name)
      })
    }

    for (const [name, bytes] of Object.entries(PIPELINED)) {
      await t.test(`pipelined: ${name}`, async (t) => {
        seen.length = 0
        const { answered } = await send(bytes + NEXT)
        t.same(answered, seen)
        t.same(seen.map((one) => one.split(' ')[2]), ['/first', '/second', '/next'])
        await canary(t, name)
      })
    }

    await t.test('over HTTP/2', async (t) => {
      const base = Buffer.concat([field(':method', 'POST'), field(':scheme', 'http'), field(':path', '/first'), field(':authority', HOST)])
      const cases: Readonly<Record<string, Buffer>> = {
        'H2.CL': field('content-length', '0'), 'H2.TE': field('transfer-encoding', 'chunked'), 'a length in a list': field('content-length', '0, 5'), 'a field with CRLF': field('x', 'y\r\nTransfer-Encoding: chunked'),
        'a name with CRLF': field('x\r\ntransfer-encoding: chunked\r\ny', 'z'), 'a name with a colon': field('transfer-encoding: chunked', ''), 'Connection': field('connection', 'keep-alive, transfer-encoding'),
        'a path with a request line': field(':path', '/first HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled'), 'a method with a request line': field(':method', 'GET /smuggled HTTP/1.1'), 'Upgrade': field('upgrade', 'h2c'),
      }
      for (const [name, trick] of Object.entries(cases)) {
        seen.length = 0
        const raw = new RawH2(world.h2Port)
        raw.socket.write(Buffer.concat([frame(HEADERS, END_HEADERS, 1, Buffer.concat([base, trick])), frame(DATA, END_STREAM, 1, Buffer.from(`0\r\n\r\n${INNER}`))]))
        await until(name, () => raw.ends > 0 || raw.resets > 0 || raw.closed)
        raw.socket.destroy()
        t.ok(seen.length <= 1, `${name}: ${seen.join()}`)
        t.notOk(seen.some((one) => one.includes('smuggled')), name)
        await canary(t, name)
      }
    })
  })
}

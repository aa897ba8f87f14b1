// An agent is not trusted with framing (threats 37, 38): what it says wrongly is 502 or visibly broken, by both doors, and the next request gets its own answer.
import { connect, constants, type IncomingHttpHeaders } from 'node:http2'
import { connect as dial } from 'node:net'
import t, { type Test } from 'tap'
import { errors } from '../../protocol/errors.ts'
import { type Fields, NO_FIELDS } from '../../protocol/stream.ts'
import type { Answer } from '../../sidecar/carry.ts'
import { until } from '../harness/until.ts'
import { type Carried, ENVELOPE, get, Raw, startIngress } from './ingress-rig.ts'

const OK: Fields = [':status', '200']
const NONE = Buffer.alloc(0)
const whole = (fields: Fields, body = 'POISON') => (answer: Answer): void => answer.head(fields, Buffer.from(body), true)
const parts = (fields: Fields, body: readonly string[], trailers: Fields = NO_FIELDS) => (answer: Answer): void => {
  answer.head(fields, NONE, false)
  for (const chunk of body) answer.data(Buffer.from(chunk))
  answer.end(trailers)
}

/** What the agent does, and what its visitor gets: the status, or `broken` after a head. */
const ROGUE: Readonly<Record<string, readonly [(answer: Answer) => void, '502' | 'broken']>> = {
  'no status': [whole([]), '502'],
  'a field in place of the status': [whole(['x', 'y']), '502'],
  'a status of two digits': [whole([':status', '99']), '502'],
  'a status of four digits': [whole([':status', '2000']), '502'],
  'a status with a line break': [whole([':status', '200\r\nX: y']), '502'],
  'a final head of 100': [whole([':status', '100']), '502'],
  'a final head of 103': [whole([':status', '103']), '502'],
  '101 unasked': [whole([':status', '101', 'Upgrade', 'x']), '502'],
  'a second status': [whole([...OK, ':status', '201']), '502'],
  'another pseudo-field': [whole([...OK, ':path', '/']), '502'],
  'a value with CR LF': [whole([...OK, 'a', 'b\r\nSet-Cookie: c']), '502'],
  'a value with a bare LF': [whole([...OK, 'a', 'b\nc']), '502'],
  'a value with NUL': [whole([...OK, 'a', '\0']), '502'],
  'a name with a blank': [whole([...OK, 'a b', 'c']), '502'],
  'a name with a colon': [whole([...OK, 'a:b', 'c']), '502'],
  'an empty name': [whole([...OK, '', 'c']), '502'],
  'two lengths': [whole([...OK, 'Content-Length', '6', 'content-length', '6']), '502'],
  'a signed length': [whole([...OK, 'Content-Length', '+6']), '502'],
  'a list of lengths': [whole([...OK, 'Content-Length', '6, 6']), '502'],
  'a length that is too short': [whole([...OK, 'Content-Length', '5']), '502'],
  'a length that is too long': [whole([...OK, 'Content-Length', '7']), '502'],
  '204 with a body': [whole([':status', '204']), '502'],
  '304 with a body': [whole([':status', '304']), '502'],
  'a body behind 204': [parts([':status', '204'], ['POISON']), 'broken'],
  'more than its length, later': [parts([...OK, 'Content-Length', '2'], ['ok', 'POISON']), 'broken'],
  'less than its length': [parts([...OK, 'Content-Length', '20'], ['ok']), 'broken'],
  'a trailer with CR LF': [parts(OK, ['ok'], ['a', 'b\r\n\r\nPOISON']), 'broken'],
  'a trailer with an empty name': [parts(OK, ['ok'], ['', 'b']), 'broken'],
  'a failure after the head': [(answer) => (answer.head(OK, Buffer.from('ok'), false), answer.fail(errors.origin_reset, '')), 'broken'],
}
/** What would frame, were it passed on: left out, the answer is whole. */
const HARMLESS: Readonly<Record<string, (answer: Answer) => void>> = {
  'Transfer-Encoding': whole([...OK, 'Transfer-Encoding', 'chunked'], 'fine'),
  'Transfer-Encoding and a length': whole([...OK, 'Transfer-Encoding', 'chunked', 'Content-Length', '4'], 'fine'),
  'Connection and what it names': whole([...OK, 'Connection', 'close, X-Gone', 'X-Gone', 'POISON', 'Keep-Alive', 'timeout=1'], 'fine'),
  'fields of ours': whole([...OK, 'Postern', 'POISON', 'postern_x', 'POISON', 'Postern-Agent', 'POISON'], 'fine'),
  'trailers that frame': parts(OK, ['fi', 'ne'], ['Content-Length', '9', 'Transfer-Encoding', 'POISON', 'Host', 'POISON', 'Connection', 'POISON']),
  'empty chunks': parts(OK, ['', 'fine', '', '']),
}

async function start(t: Test, door: 'h1' | 'h2'): Promise<{ path: string; carried: Carried[] }> {
  const rig = await startIngress(t, ({ request, answer }) => {
    const name = decodeURIComponent(request.fields[7]!.slice(1))
    const act = ROGUE[name]?.[0] ?? HARMLESS[name] ?? whole(OK, 'next')
    act(answer)
  }, door)
  return rig
}

t.test('the h1 door', async (t) => {
  const { path, carried } = await start(t, 'h1')
  for (const [name, [, expected]] of Object.entries(ROGUE)) {
    const raw = new Raw(path)
    raw.socket.write(get(`/${encodeURIComponent(name)}`) + get('/next'))
    await until(name, () => raw.ended || raw.text.endsWith('next'), { logs: () => raw.text })
    t.notMatch(raw.text, /POISON|Set-Cookie/, name)
    if (expected === '502') t.match(raw.text, /^HTTP\/1\.1 502 [^]*code: agent_protocol\n[^]*\nHTTP\/1\.1 200 OK\r\nContent-Length: 4\r\n\r\nnext$/, name)
    else {
      t.match(raw.text, /^(HTTP\/1\.1 20[04] |$)/, name)
      t.notMatch(raw.text, /\r\n0\r\n\r\n|next/, `${name}: nothing that looks whole, and nothing behind it`)
    }
    if (!name.startsWith('a failure')) t.equal(carried.findLast(({ request }) => request.fields[7] !== '/next')!.cancelled, errors.agent_protocol, name)
    raw.socket.destroy()
  }
  const raw = new Raw(path)
  for (const name of Object.keys(HARMLESS)) {
    raw.text = ''
    raw.socket.write(get(`/${encodeURIComponent(name)}`) + get('/next'))
    await until(name, () => raw.text.endsWith('next'))
    t.match(raw.text, /^HTTP\/1\.1 200 OK\r\n(Content-Length: 4\r\n\r\nfine|Transfer-Encoding: chunked\r\n\r\n(2\r\nfi\r\n2\r\nne|4\r\nfine)\r\n0\r\n\r\n)HTTP\/1\.1 200 OK/, name)
  }
  raw.socket.destroy()
})

t.test('the h2 door', async (t) => {
  const { path } = await start(t, 'h2')
  const session = connect('http://demo.localhost', { createConnection: () => dial(path) })
  t.teardown(() => session.destroy())
  const ask = async (name: string): Promise<{ status: number | undefined; body: string; broken: boolean }> => {
    const stream = session.request({ ':path': `/${encodeURIComponent(name)}`, postern: ENVELOPE })
    let head: IncomingHttpHeaders & { ':status'?: number | undefined } = {}
    let body = ''
    stream.on('response', (fields) => (head = fields)).on('data', (chunk: Buffer) => (body += chunk.toString())).on('error', () => undefined)
    await new Promise((resolve) => stream.once('close', resolve))
    t.notMatch(JSON.stringify(head), /POISON|set-cookie/, name)
    return { status: head[':status'], body, broken: stream.rstCode !== constants.NGHTTP2_NO_ERROR }
  }
  for (const [name, [, expected]] of Object.entries(ROGUE)) {
    const { status, body, broken } = await ask(name)
    t.notMatch(body, /POISON/, name)
    if (expected === '502') t.same([status, broken], [502, false], name)
    // Of 204 the head ends the stream: what comes behind it has nowhere to go.
    else t.ok(broken || status === 204, name)
    t.same(await ask('next'), { status: 200, body: 'next', broken: false })
  }
  for (const name of Object.keys(HARMLESS)) t.same(await ask(name), { status: 200, body: 'fine', broken: false }, name)
})

// The agent's http channels before whoever answers in a gateway's place: HTML, refusals, garbage, silence, answers cut, packed or too large. It says what is wrong, and takes no byte of it.
import https from 'node:https'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { reset } from '../../dev/reset.ts'
import type { Dial, DialFailure, DialOptions } from '../../agent/channel-dial.ts'
import { decodeBase64, EventReader } from '../../agent/event-reader.ts'
import { dialLongPoll } from '../../agent/long-poll.ts'
import { dialSse } from '../../agent/sse.ts'
import { dialTcp } from '../../agent/tcp.ts'
import type { Way } from '../../agent/way.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { BODY_MAX_BYTES } from '../../protocol/http-channel.ts'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { encodeBeat } from '../../protocol/messages.ts'
import type { Ends } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { CERTIFICATE, KEY } from './certificate.ts'

const DIALS: Readonly<Record<string, Dial>> = { sse: dialSse, 'long-poll': dialLongPoll }
const ID = 'f0'.repeat(16)
const MESSAGE = encodeBeat(true, 1)
const LARGEST = Buffer.concat([Buffer.from([MESSAGE_MAX_BYTES >> 16, (MESSAGE_MAX_BYTES >> 8) & 255, MESSAGE_MAX_BYTES & 255]), Buffer.alloc(MESSAGE_MAX_BYTES)])
const BODY = Buffer.concat([Buffer.of(0, 0, MESSAGE.length), MESSAGE])

/** What a request is answered with, by its first line; undefined: nothing. */
type Script = (line: string, socket: net.Socket) => Buffer | string | undefined

/** A server of raw bytes; tells what each request began with, and its fields. */
async function serve(t: Ends, script: Script): Promise<{ port: number; requests: string[] }> {
  const requests: string[] = []
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    let came = ''
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      came += chunk.toString('latin1')
      for (;;) {
        const end = came.indexOf('\r\n\r\n')
        const length = Number(/^content-length: (\d+)/im.exec(came.slice(0, end))?.[1] ?? 0)
        if (end < 0 || came.length < end + 4 + length) return
        const head = came.slice(0, end)
        came = came.slice(end + 4 + length)
        requests.push(head)
        const answer = script(head.split('\r\n', 1)[0]!, socket)
        if (answer !== undefined) socket.write(answer)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, requests }
}

const dialed = (dial: Dial, options: Omit<DialOptions, 'userAgent'>): Promise<Carrier | DialFailure> => new Promise((resolve) => dial({ ...options, userAgent: 'test' }, resolve))
const told = (outcome: Carrier | DialFailure): string => ('reason' in outcome ? `${outcome.reason}: ${outcome.detail}` : 'a channel')
const answer = (status: string, type: string, body: Buffer | string, fields = ''): Buffer =>
  Buffer.concat([Buffer.from(`HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\n${fields}Content-Length: ${String(body.length)}\r\n\r\n`), Buffer.from(body)])
const stream = (text: string): string => `HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n${text}`
const HTML = '<html>Please log in to this network</html>'
const GATEWAY = 'http://gate.example'

/** What is answered, what is said of it, and what if a proxy was asked for it. */
const answers: Readonly<Record<string, readonly [Script, RegExp, RegExp]>> = {
  'an HTML page': [() => answer('200 OK', 'text/html', HTML), /^http: no gateway answers there \(HTTP 200\)$/, /^proxy: .*the proxy P gives an answer that is no gateway's: 200 an answer of type text\/html$/],
  '407': [() => answer('407 Proxy Authentication Required', 'text/html', HTML), /^http: .*HTTP 407/, /^proxy: .*the proxy P wants a name and a password \(407\)/],
  '403 of a proxy': [() => answer('403 Forbidden', 'text/html', HTML), /^http: .*HTTP 403/, /^proxy: .*the proxy P .*: 403 Forbidden$/],
  '502': [() => answer('502 Bad Gateway', 'text/html', HTML), /^unreachable: the gateway is away \(HTTP 502\)$/, /^proxy: .*the proxy P .*: 502 Bad Gateway$/],
  '503 in words': [() => answer('503 Service Unavailable', 'text/plain', 'gateway_busy\n'), /^unreachable: the gateway is away \(HTTP 503\): gateway_busy$/, /^proxy: .*the proxy P .*: 503 Service Unavailable: gateway_busy$/],
  'a redirect': [() => answer('302 Found', 'text/html', '', 'Location: https://elsewhere/\r\n'), /^http: redirected to https:\/\/elsewhere\/; redirects are not followed$/, /^proxy: .*302 Found$/],
  'something packed': [(line) => answer('200 OK', line.startsWith('GET') ? 'text/event-stream' : 'text/plain', 'xx', 'Content-Encoding: gzip\r\n'), /packed on the way \(gzip\)$/, /^proxy: .*packed on the way \(gzip\)$/],
  'no id': [(line) => (line.startsWith('GET') ? stream('event: channel\ndata: nothing\n\n') : answer('200 OK', 'text/plain', 'nothing')), /^http: .*gateway$/, /gateway$/],
  'another event first': [(line) => (line.startsWith('GET') ? stream(`data: ${ID}\n\n`) : answer('200 OK', 'text/plain', `${ID}\n`)), /^http: .*gateway$/, /gateway$/],
  'what is no HTTP': [() => 'SSH-2.0-OpenSSH_9.2\r\n', /^http: .*what answers there is no HTTP server$/, /^proxy: .*the proxy P gives no answer/],
  'an end': [(_line, socket) => void socket.end(), /^unreachable: /, /^proxy: .*the proxy P gives no answer: other side closed/],
}

for (const [kind, dial] of Object.entries(DIALS)) {
  for (const [what, [script, direct, forward]] of Object.entries(answers)) {
    t.test(`${kind}: ${what} instead of a gateway's answer is told of`, async (t) => {
      const { port, requests } = await serve(t, script)
      t.match(told(await dialed(dial, { gateway: `http://127.0.0.1:${String(port)}` })), direct)
      const proxy = new URL(`http://127.0.0.1:${String(port)}`)
      t.match(told(await dialed(dial, { gateway: GATEWAY, way: { kind: 'forward', proxy } })).replaceAll(proxy.host, 'P'), forward)
      t.match(requests.at(-1), new RegExp(`^(GET|POST) ${GATEWAY}/_postern/channel/(events|open) HTTP/1\\.1\r\n`), 'a proxy is told where to')
      t.match(requests[0], /^(GET|POST) \/_postern\/channel\/(events|open) HTTP\/1\.1\r\n/)
      for (const head of requests) t.match(head, /^accept-encoding: identity\r?$/im)
    })
  }

  t.test(`${kind}: a proxy that is not there is told of`, async (t) => {
    const way: Way = { kind: 'forward', proxy: new URL('http://127.0.0.1:9') }
    t.match(told(await dialed(dial, { gateway: GATEWAY, way })), /^proxy: .*the proxy 127\.0\.0\.1:9 can not be reached/)
  })

  t.test(`${kind}: a gateway with TLS is not shown to a proxy that is asked for each request`, async (t) => {
    const { port, requests } = await serve(t, () => undefined)
    const way: Way = { kind: 'forward', proxy: new URL(`http://127.0.0.1:${String(port)}`) }
    t.match(told(await dialed(dial, { gateway: 'https://gate.example', way })), /^proxy: .*is asked for plain requests alone/)
    t.same(requests, [])
  })

  t.test(`${kind}: a certificate that nobody vouches for is no gateway, and is asked nothing`, async (t) => {
    const server = https.createServer({ cert: CERTIFICATE, key: KEY }, () => t.fail('a request'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    t.match(told(await dialed(dial, { gateway: `https://localhost:${String((server.address() as AddressInfo).port)}` })), /^tls: localhost:\d+: self-signed certificate/)
  })

  t.test(`${kind}: a dial that is given up says nothing`, async (t) => {
    const { port, requests } = await serve(t, () => undefined)
    const cancel = dial({ gateway: `http://127.0.0.1:${String(port)}`, userAgent: 'test' }, () => t.fail('it says something'))
    await until('it is asked', () => requests.length > 0)
    cancel()
    const other = await dialed(dial, { gateway: 'http://127.0.0.1:9' })
    t.match(told(other), /^unreachable: /)
  })
}

t.test('what needs a connection of its own is not asked of a proxy that forwards requests', async (t) => {
  const { port, requests } = await serve(t, () => undefined)
  const way: Way = { kind: 'forward', proxy: new URL(`http://127.0.0.1:${String(port)}`) }
  for (const dial of [dialWebsocket, dialTcp]) t.match(told(await dialed(dial, { gateway: GATEWAY, way })), /^proxy: .*is asked for plain requests alone/)
  t.same(requests, [])
})

t.test('an event stream that is held back is found out within 5 s', async (t) => {
  const begun = performance.now()
  const silent = await serve(t, () => undefined)
  const headed = await serve(t, () => stream(''))
  const half = await serve(t, () => stream(`event: channel\ndata: ${ID}\n`))
  const outcomes = await Promise.all([silent, headed, half].map(({ port }) => dialed(dialSse, { gateway: `http://127.0.0.1:${String(port)}` })))
  for (const outcome of outcomes) t.match(told(outcome), /^unreachable: .*the event stream is held back on the way$/)
  // Twice that: the machine may have other work. The next longer time on this way is 35 s.
  t.ok(performance.now() - begun < 10_000)
})

/** A channel that is open, before a server that answers what comes after by `script`; and why it ended. */
async function opened(t: Ends, kind: string, script: Script, first = ''): Promise<{ carrier: Carrier; reason: Promise<string>; messages: Buffer[]; requests: string[] }> {
  const { port, requests } = await serve(t, (line, socket) => {
    if (line.includes('/open')) return answer('200 OK', 'text/plain', ID)
    return line.includes('/events') ? stream(`event: channel\ndata: ${ID}\n\n${first}`) : script(line, socket)
  })
  const messages: Buffer[] = []
  const carrier = await dialed(DIALS[kind]!, { gateway: `http://127.0.0.1:${String(port)}` })
  if ('reason' in carrier) throw new Error(carrier.detail)
  t.teardown(() => carrier.abort())
  carrier.onMessage = (message) => messages.push(Buffer.from(message))
  return { carrier, messages, requests, reason: new Promise((resolve) => (carrier.onClosed = resolve)) }
}

const polls: Readonly<Record<string, readonly [Script, RegExp, (number | 'some')?]>> = {
  'an HTML page': [() => answer('200 OK', 'text/html', HTML), /no gateway answers there \(HTTP 200\)/],
  'a refusal': [() => answer('403 Forbidden', 'text/plain', 'there is no such channel\n'), /^refused \(HTTP 403\): there is no such channel$/],
  'a body cut short': [(_line, socket) => void socket.end(`HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\n${BODY.toString('latin1')}`), /closed|content-length/i, 1],
  'a body that nobody measured': [(_line, socket) => void socket.end(Buffer.concat([Buffer.from('HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n'), BODY])), /of a length that nobody told/],
  'chunks without an end': [(_line, socket) => void socket.end(`HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n${BODY.toString('latin1')}\r\n`), /./, 1],
  'a body that ends within a message': [() => answer('200 OK', 'application/octet-stream', Buffer.concat([BODY, Buffer.of(0, 0)])), /a body that ends within a message/, 1],
  'a body that is too large': [() => answer('200 OK', 'application/octet-stream', Buffer.alloc(BODY_MAX_BYTES + 1, LARGEST)), /more than 1048576 bytes/, 'some'],
  'nothing at once, for ever': [() => 'HTTP/1.1 204 No Content\r\n\r\n', /polls are answered with nothing at once/],
  'a broken connection': [(_line, socket) => {
    reset(socket)
    return undefined
  }, /./],
}

for (const [what, [script, says, count = 0]] of Object.entries(polls)) {
  t.test(`long-poll: a poll that is answered with ${what} ends the channel`, async (t) => {
    const { reason, messages } = await opened(t, 'long-poll', script)
    t.match(await reason, says)
    if (count === 'some') t.ok(messages.length > 0)
    else t.equal(messages.length, count)
  })
}

const events: Readonly<Record<string, readonly [string, RegExp]>> = {
  'of another name': [`event: x\ndata: ${BODY.toString('base64')}\n\n`, /an event that holds no messages/],
  'that is not base64': ['data: AA!A\n\n', /an event that holds no messages/],
  'of half a message': [`data: ${BODY.subarray(0, -1).toString('base64')}\n\n`, /a body that ends within a message/],
  'that is empty': ['data: \n\n', /an event that holds no messages/],
  'of more lines': [`data: ${BODY.toString('base64')}\ndata: x\n\n`, /what came is no event of a gateway/],
  'of HTML': ['<html>\n', /what came is no event of a gateway/],
  'without an end': [`data: ${'A'.repeat(2 * BODY_MAX_BYTES)}`, /a line of an event is too long/],
}

for (const [what, [text, says]] of Object.entries(events)) {
  t.test(`sse: an event ${what} ends the channel`, async (t) => {
    const { reason, messages } = await opened(t, 'sse', () => undefined, text)
    t.match(await reason, says)
    t.same(messages, [])
  })
}

for (const kind of Object.keys(DIALS)) {
  t.test(`${kind}: a POST that is answered with anything but 204 ends the channel`, async (t) => {
    for (const [bytes, says] of [
      [answer('200 OK', 'application/octet-stream', ''), /no gateway answers there \(HTTP 200\)/],
      [answer('409 Conflict', 'text/plain', 'POST 0 was had\n'), /^refused \(HTTP 409\): POST 0 was had$/],
      [answer('502 Bad Gateway', 'text/html', HTML), /the gateway is away \(HTTP 502\)/],
      [answer('413 Request Entity Too Large', 'text/html', HTML), /HTTP 413/],
    ] as const) {
      const { carrier, reason } = await opened(t, kind, (line) => (line.startsWith('POST') ? bytes : undefined))
      carrier.send(MESSAGE)
      t.match(await reason, says)
    }
  })

  t.test(`${kind}: what is said in a turn goes in one request, one request at a time`, async (t) => {
    let waits: net.Socket | undefined
    const { carrier, requests } = await opened(t, kind, (line, socket) => {
      if (line.startsWith('POST')) waits = socket
      return undefined
    })
    const posts = (): string[] => requests.filter((head) => /^POST .*\/messages/.test(head))
    for (let i = 0; i < 10; i++) carrier.send(MESSAGE)
    await until('it is asked', () => waits)
    for (let i = 0; i < 20; i++) {
      carrier.send(MESSAGE)
      await new Promise((resolve) => setImmediate(resolve))
    }
    t.equal(posts().length, 1)
    waits!.write('HTTP/1.1 204 No Content\r\n\r\n')
    await until('the next is there', () => posts().length === 2)
    t.same(posts().map((head) => Number(/content-length: (\d+)/i.exec(head)![1])), [10 * BODY.length, 20 * BODY.length])
    t.match(posts()[1], new RegExp(`^postern-channel: ${ID};1;[0-9a-f]{64};\r?$`, 'im'))
  })
}

t.test('an event stream is read the same however it is cut', (t) => {
  const text = Buffer.from(`event: channel\ndata: ${ID}\n\ndata: ${BODY.toString('base64')}\n\ndata: QQ==\n\n`)
  const want = [['channel', ID], ['', BODY.toString('base64')], ['', 'QQ==']]
  for (let size = 1; size <= text.length; size++) {
    const came: string[][] = []
    const reader = new EventReader((name, data) => came.push([name, data]))
    for (let at = 0; at < text.length; at += size) t.equal(reader.push(text.subarray(at, at + size)), undefined)
    t.same(came, want)
  }
  for (const bad of ['A', 'AA', 'AAA', 'A===', 'AA=A', 'AAAA\n', 'A AA', '====']) t.equal(decodeBase64(bad), undefined, bad)
  t.same([decodeBase64('QQ=='), decodeBase64('QUE='), decodeBase64('QUFB'), decodeBase64('')], [Buffer.from('A'), Buffer.from('AA'), Buffer.from('AAA'), Buffer.alloc(0)])
  t.end()
})

// What the fuzzer is set on at the agent: answers of origins, event streams, and what proxies and gateways say over real sockets.
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import { AnswerReader } from '../../agent/answer-reader.ts'
import type { Dial } from '../../agent/channel-dial.ts'
import { decodeBase64, EventReader } from '../../agent/event-reader.ts'
import { dialLongPoll } from '../../agent/long-poll.ts'
import { dialSse } from '../../agent/sse.ts'
import { dialTcp } from '../../agent/tcp.ts'
import type { Way } from '../../agent/way.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import { readBody } from '../../protocol/http-channel.ts'
import type { Random } from '../protocol/simulation.ts'
import type { Target } from './harness.ts'
import { cut } from './wire.ts'

/** Connecting, hearing and closing. */
const SOCKETS_MAX_MS = 200
const OK = 'HTTP/1.1 200 OK\r\n'

const answers: Target = {
  name: 'answers of origins',
  seeds: [
    `${OK}Content-Length: 5\r\nX-A: b\r\n\r\nhello`,
    `HTTP/1.1 103 Early\r\nLink: x\r\n\r\n${OK}Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: v\r\n\r\n`,
    `HTTP/1.0 204 No\r\nConnection: close\r\n\r\n`,
    `${OK}\r\nuntil it closes`,
  ],
  run: (bytes, random) => {
    let ends = 0
    let announced = 0
    const reader = new AnswerReader({ answerHead: (status) => void (status >= 200 && announced++), answerData: () => undefined, answerEnd: () => void ends++ }, random.below(4) === 0)
    for (const piece of cut(bytes, random)) reader.push(piece)
    reader.closed()
    if (ends > 1 || announced > 1 || (ends === 1 && announced !== 1)) throw new Error(`${String(announced)} answers, ${String(ends)} ends`)
  },
}

const events: Target = {
  name: 'event streams of gateways',
  seeds: [`event: channel\ndata: ${'0'.repeat(32)}\n\ndata: AAAGIAAAAAAH\n\n`],
  run: (bytes, random) => {
    const reader = new EventReader((_name, data) => {
      const body = decodeBase64(data)
      if (body !== undefined) readBody(body, () => true)
    })
    for (const piece of cut(bytes, random)) if (reader.push(piece) !== undefined) return
  },
}

/** A server that says `bytes` to whoever comes and then ends; each dial comes to an end, by a carrier or by a failure that is told in words. */
async function servers(t: Test): Promise<Target[]> {
  let said: Buffer[] = []
  const server = createServer((socket: Socket) => {
    socket.on('error', () => undefined).resume()
    for (const piece of said) socket.write(piece)
    socket.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void server.close())
  const at = `127.0.0.1:${String((server.address() as AddressInfo).port)}`
  const gateway = `http://${at}`
  const dialed = (dial: Dial, way?: Way) => async (bytes: Buffer, random: Random): Promise<void> => {
    said = [...cut(bytes, random)]
    await new Promise<void>((resolve, reject) => {
      dial({ gateway, userAgent: 'test', ...(way === undefined ? {} : { way }) }, (outcome) => {
        if ('reason' in outcome) return typeof outcome.detail === 'string' && outcome.detail !== '' ? resolve() : reject(new Error('a failure without a word'))
        outcome.onClosed = () => resolve()
        outcome.onMessage = () => undefined
        setImmediate(() => outcome.abort())
      })
    })
  }
  const type = (name: string): string => `Content-Type: ${name}\r\n`
  const ws = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n`
  const target = (name: string, run: Target['run'], ...seeds: readonly (Buffer | string)[]): Target => ({ name: `answers ${name}`, seeds, maxMs: SOCKETS_MAX_MS, run })
  const socks = ['0500' + '050000017f0000011f90', '0502' + '0100' + '05000003036162631f90'].map((hex) => Buffer.from(hex, 'hex'))
  const id = '0'.repeat(32)
  return [
    target('of SOCKS proxies', dialed(dialTcp, { kind: 'socks5', proxy: new URL(`socks5://a:b@${at}`) }), ...socks),
    target('of HTTP proxies', dialed(dialTcp, { kind: 'connect', proxy: new URL(`http://${at}`) }), 'HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n', 'HTTP/1.1 407 Who\r\n\r\n'),
    target('to an upgrade', dialed(dialTcp), 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: postern\r\nConnection: Upgrade\r\n\r\n\0\0\x06\x20\0\0\0\0\x07', 'HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n'),
    target('to a websocket', dialed(dialWebsocket), Buffer.concat([Buffer.from(ws), Buffer.from('8206200000000007', 'hex')])),
    target('to sse', dialed(dialSse), `${OK}${type('text/event-stream')}\r\nevent: channel\ndata: ${id}\n\ndata: AAAGIAAAAAAH\n\n`, 'HTTP/1.1 403 No\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno'),
    target('to a long poll', dialed(dialLongPoll), `${OK}${type('text/plain')}Content-Length: 32\r\n\r\n${id}`, `${OK}${type('text/plain')}Transfer-Encoding: chunked\r\n\r\n20\r\n${id}\r\n0\r\n\r\n`),
  ]
}

export async function outsideTargets(t: Test): Promise<Target[]> {
  return [answers, events, ...(await servers(t))]
}

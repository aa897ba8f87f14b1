// The http2 channel: one POST whose bodies stay open both ways, on a connection of its own (SPEC §2).
import http2 from 'node:http2'
import tls from 'node:tls'
import { ByteCarrier } from '../protocol/byte-carrier.ts'
import { Http2Socket, HTTP2_GREETING, HTTP2_WINDOW_BYTES } from '../protocol/http2-socket.ts'
import { channelUrl, type Dial, failureOf, httpFailure, placeOf, SOCKET_QUEUE_MAX_BYTES, UPGRADE_TIMEOUT_MS } from './channel-dial.ts'
import { dial } from './dialer.ts'
import { DIRECT } from './way.ts'

/** A frame of 64 KiB carries a record whole; the least that HTTP/2 allows, 16 KiB, cuts it in four. */
const FRAME_MAX_BYTES = 65_536
const OPTIONS = { settings: { enablePush: false, initialWindowSize: HTTP2_WINDOW_BYTES, maxFrameSize: FRAME_MAX_BYTES } }
const NO_HTTP2 = { reason: 'http', detail: 'what answers there speaks no HTTP/2' } as const

export const dialHttp2: Dial = (options, done) => {
  const url = channelUrl(options.gateway)
  url.pathname += '/h2'
  let over = false
  let session: http2.ClientHttp2Session | undefined
  const settle: typeof done = (outcome) => {
    if (over) return
    over = true
    clearTimeout(timer)
    if ('reason' in outcome) session?.destroy()
    done(outcome)
  }
  let timer: NodeJS.Timeout | undefined
  // http/1.1 is offered for those who know no more: to be told by a choice is plainer than by an alert.
  const cancelDial = dial(options.way ?? DIRECT, { ...placeOf(url, options.trust), alpn: ['h2', 'http/1.1'] }, (error, socket) => {
    if (socket === undefined) return settle(failureOf(error!, url.host))
    if (socket instanceof tls.TLSSocket && socket.alpnProtocol !== 'h2') {
      socket.destroy()
      return settle(NO_HTTP2)
    }
    timer = setTimeout(() => settle({ reason: 'unreachable', detail: `${url.host}: the gateway did not answer in time` }), UPGRADE_TIMEOUT_MS)
    const connected = http2.connect(url, { ...OPTIONS, createConnection: () => socket })
    session = connected
    let spoke = false
    const broke = (failure?: Error): void => settle(spoke ? failureOf(failure ?? new Error('the connection was closed'), url.host) : NO_HTTP2)
    connected.on('error', broke)
    connected.on('close', () => broke())
    connected.once('remoteSettings', () => (spoke = true))
    connected.setLocalWindowSize(HTTP2_WINDOW_BYTES)
    const stream = connected.request({ ':method': 'POST', ':path': url.pathname, 'user-agent': options.userAgent, 'content-type': 'application/octet-stream' }, { endStream: false })
    stream.on('error', broke)
    stream.once('response', (headers) => {
      if (headers[':status'] !== 200) return settle(httpFailure(headers[':status'] ?? 0, headers.location))
      settle(new ByteCarrier({ kind: 'http2', peer: url.host, worker: 0, queueMaxBytes: SOCKET_QUEUE_MAX_BYTES, givesChunks: false }, new Http2Socket(stream, connected, later, HTTP2_GREETING.length)))
    })
  })
  return () => {
    over = true
    clearTimeout(timer)
    cancelDial()
    session?.destroy()
  }
}

function later(ms: number, then: () => void): () => void {
  const timer = setTimeout(then, ms)
  return () => clearTimeout(timer)
}

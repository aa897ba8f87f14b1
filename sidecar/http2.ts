// The http2 channel: one POST whose bodies stay open both ways, alone on its connection, from nginx or from an agent itself (SPEC §2).
import { constants, type IncomingHttpHeaders, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { ByteCarrier } from '../protocol/byte-carrier.ts'
import type { Clock } from '../protocol/clock.ts'
import { Http2Socket, HTTP2_GREETING, HTTP2_WINDOW_BYTES } from '../protocol/http2-socket.ts'
import type { Arrival } from './arrival.ts'
import { SOCKET_QUEUE_BYTES } from './tcp.ts'

export const HTTP2_PATH = '/_postern/channel/h2'

/** A head is that of our agent and what nginx adds: far below these. */
const HEAD_MAX_BYTES = 16_384
const HEAD_MAX_FIELDS = 64
/** Frames that break the protocol, and streams that were refused, until the connection ends. Ours and nginx's have none. */
const FAULTS_MAX_COUNT = 10
/** Settings that a peer may send in one frame; there are some ten. */
const SETTINGS_MAX_COUNT = 32

/** Nobody reads it. Node takes this, its types do not know it. */
const NO_DATE: object = { sendDate: false }

const OPTIONS = {
  settings: { maxConcurrentStreams: 1, initialWindowSize: HTTP2_WINDOW_BYTES, maxHeaderListSize: HEAD_MAX_BYTES, enablePush: false },
  maxHeaderListPairs: HEAD_MAX_FIELDS,
  maxSessionInvalidFrames: FAULTS_MAX_COUNT,
  maxSessionRejectedStreams: FAULTS_MAX_COUNT,
  maxSettings: SETTINGS_MAX_COUNT,
} as const

export type Http2Request = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

/**
 * Speaks HTTP/2 on a connection whose preface is still to be read; `begin` gets its one request. A connection that makes another is cut, so
 * nobody gains by opening and resetting streams.
 */
export function serveHttp2(socket: Socket, begin: Http2Request): void {
  const session: ServerHttp2Session = performServerHandshake(socket, OPTIONS)
  // HTTP/2 ends its streams, not half of a connection: a peer that ends that is gone.
  socket.once('end', () => socket.destroy())
  // What it broke of is told by the close of the stream.
  session.on('error', ignore)
  session.setLocalWindowSize(HTTP2_WINDOW_BYTES)
  let begun = false
  session.on('stream', (stream, headers) => {
    stream.on('error', ignore)
    // One that was opened and reset in the same breath is told of when it is gone already.
    if (begun || stream.closed || stream.destroyed) return session.destroy()
    begun = true
    begin(stream, headers)
  })
}

/** Is it what an agent asks with? */
export function isChannelRequest(headers: IncomingHttpHeaders): boolean {
  return headers[':method'] === 'POST' && headers[':path'] === HTTP2_PATH
}

/** Answers 200 with a greeting, and the two bodies are the channel from then on. */
export function acceptHttp2(stream: ServerHttp2Stream, { peer, worker }: Arrival, clock: Clock): ByteCarrier {
  stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' }, NO_DATE)
  stream.write(HTTP2_GREETING)
  const socket = new Http2Socket(stream, stream.session!, (ms, then) => clock.later(ms, then))
  return new ByteCarrier({ kind: 'http2', peer, worker, queueMaxBytes: SOCKET_QUEUE_BYTES, givesChunks: false }, socket)
}

/** Answers that there is no channel, and lets the connection end. Whoever keeps sending all the same is not read, and has what is left of its time. */
export function refuseHttp2(stream: ServerHttp2Stream, status: number, fields: Readonly<Record<string, string>>, body: string): void {
  stream.respond({ ':status': status, 'content-type': 'text/plain; charset=utf-8', ...fields }, NO_DATE)
  stream.end(body, () => stream.close(constants.NGHTTP2_NO_ERROR))
  stream.session?.close()
}

function ignore(): void {}

// The tcp channel through nginx: one request that goes over to `postern`, and from then on messages behind their lengths (SPEC §2).
import http from 'node:http'
import type { Duplex } from 'node:stream'
import { ByteCarrier } from '../protocol/byte-carrier.ts'
import { channelUrl, type Dial, failureOf, httpFailure, placeOf, SOCKET_QUEUE_MAX_BYTES, UPGRADE_TIMEOUT_MS } from './channel-dial.ts'
import { dial } from './dialer.ts'
import { DIRECT } from './way.ts'

const PROTOCOL = 'postern'

export const dialTcp: Dial = (options, done) => {
  const url = channelUrl(options.gateway)
  let over = false
  let request: http.ClientRequest | undefined
  const settle: typeof done = (outcome) => {
    if (over) return
    over = true
    done(outcome)
  }
  const cancelDial = dial(options.way ?? DIRECT, placeOf(url), (error, socket) => {
    if (socket === undefined) return settle(failureOf(error!, url.host))
    request = http.request({
      createConnection: () => socket,
      path: url.pathname,
      headers: { Host: url.host, Connection: 'Upgrade', Upgrade: PROTOCOL, 'User-Agent': options.userAgent },
      timeout: UPGRADE_TIMEOUT_MS,
    })
    request.on('timeout', () => request!.destroy(new Error('the gateway did not answer in time')))
    request.on('error', (failure) => settle(failureOf(failure, url.host)))
    request.on('response', (response) => {
      settle(httpFailure(response.statusCode ?? 0, response.headers.location))
      request!.destroy()
    })
    request.on('upgrade', (response, upgraded, head) => {
      if (response.headers.upgrade?.toLowerCase() !== PROTOCOL) {
        upgraded.destroy()
        return settle({ reason: 'http', detail: 'what answers there goes over to another protocol' })
      }
      upgraded.setTimeout(0)
      const carrier = carrierOf(upgraded, url.host)
      settle(carrier)
      if (head.length > 0) carrier.received(head)
    })
    request.end()
  })
  return () => {
    over = true
    cancelDial()
    request?.destroy()
  }
}

function carrierOf(socket: Duplex, peer: string): ByteCarrier {
  const carrier = new ByteCarrier(
    { kind: 'tcp', peer, worker: 0 },
    {
      write: (length, message) => {
        socket.cork()
        socket.write(length)
        socket.write(message)
        socket.uncork()
        return socket.writableLength < SOCKET_QUEUE_MAX_BYTES
      },
      end: () => socket.end(() => socket.destroy()),
      destroy: () => socket.destroy(),
    },
  )
  socket.on('data', (chunk: Buffer) => carrier.received(chunk))
  socket.on('drain', () => carrier.drained())
  socket.on('end', () => {
    socket.destroy()
    carrier.ended('the gateway closed the connection')
  })
  socket.on('error', (error) => carrier.ended(error.message))
  socket.on('close', () => carrier.ended('the connection was closed'))
  return carrier
}

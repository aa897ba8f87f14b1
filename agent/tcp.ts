// The tcp channel: messages behind their lengths, on a gateway's own port as they are, through nginx after one request that goes over to `postern` (SPEC §2).
import http from 'node:http'
import { ByteCarrier } from '../protocol/byte-carrier.ts'
import { channelUrl, type Dial, failureOf, httpFailure, isOwnPort, placeOf, SOCKET_QUEUE_MAX_BYTES, UPGRADE_TIMEOUT_MS } from './channel-dial.ts'
import { dial } from './dialer.ts'
import { DIRECT } from './way.ts'

const PROTOCOL = 'postern'

export const dialTcp: Dial = (options, done) => (isOwnPort(options.gateway) ? dialPort(options, done) : dialUpgrade(options, done))

const dialPort: Dial = (options, done) => {
  const url = channelUrl(options.gateway)
  return dial(options.way ?? DIRECT, { ...placeOf(url, options.trust), alpn: [PROTOCOL] }, (error, socket) => {
    if (socket === undefined) return done(failureOf(error!, url.host))
    done(new ByteCarrier({ kind: 'tcp', peer: url.host, worker: 0, queueMaxBytes: SOCKET_QUEUE_MAX_BYTES, givesChunks: true }, socket))
  })
}

const dialUpgrade: Dial = (options, done) => {
  const url = channelUrl(options.gateway)
  let over = false
  let request: http.ClientRequest | undefined
  const settle: typeof done = (outcome) => {
    if (over) return
    over = true
    done(outcome)
  }
  const cancelDial = dial(options.way ?? DIRECT, placeOf(url, options.trust), (error, socket) => {
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
      const carrier = new ByteCarrier({ kind: 'tcp', peer: url.host, worker: 0, queueMaxBytes: SOCKET_QUEUE_MAX_BYTES, givesChunks: true }, upgraded)
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

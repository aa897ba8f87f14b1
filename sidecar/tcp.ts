// The tcp channel as it comes through nginx: an upgrade to `postern`, and from then on messages behind their lengths (SPEC §2).
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { ByteCarrier } from '../protocol/byte-carrier.ts'
import { peerOf, workerOf } from './arrival.ts'

/** Bytes in the socket beyond which the lanes keep their records: enough to keep nginx busy for a turn, little for an urgent frame to wait behind. */
const SOCKET_QUEUE_BYTES = 256 * 1024

/** What an agent asks to go over to. */
export const TCP_PROTOCOL = 'postern'

/** Goes over to the protocol and makes a carrier of the socket. `head`: what came behind the request already. */
export function acceptTcp(request: IncomingMessage, socket: Duplex, head: Buffer, then: (carrier: ByteCarrier) => void): void {
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${TCP_PROTOCOL}\r\n\r\n`)
  const carrier = new ByteCarrier({ kind: 'tcp', peer: peerOf(request), worker: workerOf(request), queueMaxBytes: SOCKET_QUEUE_BYTES }, socket)
  then(carrier)
  if (head.length > 0) carrier.received(head)
}

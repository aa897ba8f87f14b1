// Messages behind their lengths over a socket (SPEC §2): as they come at a port or at the socket file, or after an upgrade to `postern` through nginx.
import type { Duplex } from 'node:stream'
import { ByteCarrier } from '../protocol/byte-carrier.ts'
import type { Arrival } from './arrival.ts'

/** Bytes in the socket beyond which the lanes keep their records: enough to keep nginx busy for a turn, little for an urgent frame to wait behind. */
export const SOCKET_QUEUE_BYTES = 256 * 1024

/** What an agent asks to go over to. */
export const TCP_PROTOCOL = 'postern'

/** Makes a carrier of a socket on which nothing but messages comes. */
export function carryMessages(kind: 'tcp' | 'pipe', { peer, worker }: Arrival, socket: Duplex): ByteCarrier {
  return new ByteCarrier({ kind, peer, worker, queueMaxBytes: SOCKET_QUEUE_BYTES, givesChunks: true }, socket)
}

/** Goes over to the protocol and makes a carrier of the socket. `head`: what came behind the request already. */
export function acceptTcp(socket: Duplex, head: Buffer, arrival: Arrival, then: (carrier: ByteCarrier) => void): void {
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${TCP_PROTOCOL}\r\n\r\n`)
  const carrier = carryMessages('tcp', arrival, socket)
  then(carrier)
  if (head.length > 0) carrier.received(head)
}

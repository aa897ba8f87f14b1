// Tells by the first bytes of a connection what it carries: messages as they are, HTTP/2 or HTTP/1.1 (SPEC §2).
import type { Duplex } from 'node:stream'

export type Protocol = 'messages' | 'http2' | 'http1'

/** The first byte of a message's length, which is below 2^16; no request begins so. */
const LENGTH_BEGINS = 0
const NOTHING = Buffer.alloc(0)
/** RFC 9113 §3.4. No request of HTTP/1.1 has that method. */
const HTTP2_BEGINS = Buffer.from('PRI * HTTP/2.0\r\n')

/** Calls `then` once that is known; whatever was read for it is there to be read again. A connection that ends before is closed. */
export function tellProtocol(socket: Duplex, then: (protocol: Protocol) => void): void {
  let came = NOTHING
  const look = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    came = Buffer.concat([came, chunk])
    const protocol = protocolOf(came)
    if (protocol === undefined) return
    socket.off('readable', look)
    socket.off('end', close)
    socket.unshift(came)
    // `close` stays as long as the socket: it is not to hold what came.
    came = NOTHING
    then(protocol)
  }
  const close = (): void => void socket.destroy()
  socket.on('readable', look)
  socket.on('end', close)
}

/** Undefined: too little came to tell. */
function protocolOf(came: Buffer): Protocol | undefined {
  if (came[0] === LENGTH_BEGINS) return 'messages'
  const common = Math.min(came.length, HTTP2_BEGINS.length)
  if (!came.subarray(0, common).equals(HTTP2_BEGINS.subarray(0, common))) return 'http1'
  return common === HTTP2_BEGINS.length ? 'http2' : undefined
}

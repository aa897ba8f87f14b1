// Tells by the first bytes of a connection what it carries: messages as they are, or HTTP/1.1 (SPEC §2).
import type { Duplex } from 'node:stream'

export type Protocol = 'messages' | 'http1'

/** The first byte of a message's length, which is below 2^16; no request begins so. */
const LENGTH_BEGINS = 0

/** Calls `then` once that is known; whatever was read for it is there to be read again. A connection that says nothing at all before it ends is closed. */
export function tellProtocol(socket: Duplex, then: (protocol: Protocol) => void): void {
  const look = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    socket.off('readable', look)
    socket.off('end', close)
    socket.unshift(chunk)
    then(chunk[0] === LENGTH_BEGINS ? 'messages' : 'http1')
  }
  const close = (): void => void socket.destroy()
  socket.on('readable', look)
  socket.on('end', close)
}

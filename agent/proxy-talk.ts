// What is said to a proxy before it is a tunnel: bytes until it is open, then the socket as it stands, or why not.
import type net from 'node:net'
import { ProxyError } from './way.ts'

/** What was heard: how many bytes of it are understood (0: more is needed), and whether the tunnel is open behind them. */
export type Heard = { readonly used: number; readonly open: boolean } | ProxyError

export const MORE: Heard = { used: 0, open: false }

/** Says `first`, then hands all that comes to `hear` until the tunnel is open. Calls `done` once. */
export function talk(socket: net.Socket, proxy: URL, first: Buffer | string, hear: (bytes: Buffer) => Heard, done: (error: Error | undefined, socket?: net.Socket) => void): void {
  let came = Buffer.alloc(0)
  const over = (error: Error | undefined): void => {
    socket.off('data', read)
    socket.off('error', failed)
    socket.off('close', closed)
    if (error !== undefined) socket.destroy()
    done(error, error === undefined ? socket : undefined)
  }
  const failed = (error: Error): void => over(new ProxyError(`the proxy ${proxy.host} broke off: ${error.message}`))
  const closed = (): void => over(new ProxyError(`the proxy ${proxy.host} closed the connection without an answer`))
  const read = (chunk: Buffer): void => {
    came = Buffer.concat([came, chunk])
    for (;;) {
      const heard = hear(came)
      if (heard instanceof ProxyError) return over(heard)
      if (heard.used === 0) return
      came = came.subarray(heard.used)
      if (!heard.open) continue
      over(undefined)
      // The gateway may have spoken already.
      if (came.length > 0) socket.unshift(came)
      return
    }
  }
  socket.on('data', read)
  socket.once('error', failed)
  socket.once('close', closed)
  socket.write(first, 'latin1')
}

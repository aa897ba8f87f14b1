// A port before the gateway that ends TLS with whichever certificate it is told, or passes bytes on to a port that ends it itself.
import net from 'node:net'
import tls from 'node:tls'
import type { Ends } from '../harness/origin.ts'

export interface Front {
  readonly port: number
  /** Bytes that came once TLS stood, on all connections. */
  heardBytes: number
  /** Shows this certificate from the next connection on, before the gateway's plain port. */
  show(options: tls.TlsOptions): void
  /** Passes connections on, from the next one on, to a port that speaks TLS. */
  pass(port: number): void
  /** Cuts all connections that are there. */
  cut(): void
}

export async function startFront(t: Ends, plainPort: number, options: tls.TlsOptions): Promise<Front> {
  const sockets = new Set<net.Socket>()
  const join = (near: net.Socket, port: number, onData: (chunk: Buffer) => void): void => {
    const far = net.connect(port, '127.0.0.1')
    near.on('data', onData)
    near.pipe(far).pipe(near)
    for (const socket of [near, far]) socket.on('error', () => undefined).on('close', () => [near, far].forEach((one) => void one.destroy()))
  }
  const ender = (shown: tls.TlsOptions): tls.Server => {
    const server = tls.createServer({ ALPNProtocols: ['http/1.1', 'postern'], ...shown }, (socket) => {
      // As nginx does where certificates are optional: none will do, a wrong one will not.
      if (shown.requestCert === true && !socket.authorized && socket.getPeerX509Certificate() !== undefined) return void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
      join(socket, plainPort, (chunk) => (front.heardBytes += chunk.length))
    })
    return server.on('tlsClientError', () => undefined)
  }
  let take: (socket: net.Socket) => void
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
    take(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cut = (): void => sockets.forEach((socket) => void socket.destroy())
  t.teardown(() => {
    server.close()
    cut()
  })
  const front: Front = {
    port: (server.address() as net.AddressInfo).port,
    heardBytes: 0,
    show: (shown) => {
      const by = ender(shown)
      take = (socket) => void by.emit('connection', socket)
    },
    pass: (port) => (take = (socket) => join(socket, port, () => undefined)),
    cut,
  }
  front.show(options)
  return front
}

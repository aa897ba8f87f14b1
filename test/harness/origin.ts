// A local service for tests: of node:http, or of bare sockets where the bytes themselves matter.
import http from 'node:http'
import net from 'node:net'
import type { AddressInfo } from 'node:net'

/** Of a test: what a start registers its stop with. */
export interface Ends {
  teardown(stop: () => unknown): unknown
}

export interface Origin {
  readonly port: number
  readonly url: string
  readonly server: http.Server
  /** Requests begun since the start. */
  requests(): number
  /** Connections open now. */
  connections(): number
  stop(): Promise<void>
}

export interface RawOrigin {
  readonly port: number
  readonly url: string
  /** Connections accepted since the start. */
  accepted(): number
  /** Connections open now. */
  connections(): number
  stop(): Promise<void>
}

/** Keeps count of a server's sockets and closes them with it. */
function watch(server: net.Server): { port: number; accepted: () => number; connections: () => number; stop: () => Promise<void> } {
  const sockets = new Set<net.Socket>()
  let accepted = 0
  server.on('connection', (socket: net.Socket) => {
    accepted++
    sockets.add(socket)
    // A visitor that leaves resets the connection: no fault of a test.
    socket.on('error', () => undefined)
    socket.once('close', () => sockets.delete(socket))
  })
  let stopped: Promise<void> | undefined
  return {
    port: (server.address() as AddressInfo).port,
    accepted: () => accepted,
    connections: () => sockets.size,
    stop: () =>
      (stopped ??= new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      })),
  }
}

async function listening(server: net.Server): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // Some tests come with thousands of connections at once: none is to wait for the kernel to ask again.
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, resolve)
  })
}

/** Without a handler it answers `200` and `METHOD path` as text. */
export async function startOrigin(t: Ends, handler?: http.RequestListener): Promise<Origin> {
  let requests = 0
  const server = http.createServer((request, response) => {
    requests++
    if (handler !== undefined) return handler(request, response)
    request.resume()
    response.end(`${request.method ?? ''} ${request.url ?? ''}\n`)
  })
  // The agent keeps its connections: the origin must not be the one that ends them while a test looks on.
  server.keepAliveTimeout = 60_000
  await listening(server)
  const watched = watch(server)
  t.teardown(watched.stop)
  return { ...watched, url: `http://127.0.0.1:${String(watched.port)}`, server, requests: () => requests }
}

/** Hands each connection to `onConnection`, half-close kept. */
export async function startRawOrigin(t: Ends, onConnection: (socket: net.Socket) => void): Promise<RawOrigin> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, onConnection)
  await listening(server)
  const watched = watch(server)
  t.teardown(watched.stop)
  return { ...watched, url: `http://127.0.0.1:${String(watched.port)}` }
}

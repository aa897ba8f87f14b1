// What nginx talks to in these tests: real servers of node:http and node:http2 on the gateway's sockets, which tell what reached them; and raw visitors.
import { mkdirSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** A request as it reached a socket. */
export interface Seen {
  readonly door: 'h1' | 'h2' | 'agents'
  readonly method: string
  readonly path: string
  readonly fields: Readonly<Record<string, string | string[] | undefined>>
  readonly bytes: number
}

export interface Stand {
  readonly runDir: string
  readonly seen: Seen[]
  /** Writes a route file; the mark is there from the start. */
  route(name: string, text: string): void
  /** Writes one whose mode says that it need not be read. */
  plain(name: string, text: string): void
}

type Handler = (request: http.IncomingMessage | http2.Http2ServerRequest, response: http.ServerResponse) => void

/** Answers 200 `ok` unless told otherwise; `sockets: false` leaves the gateway away. */
export async function startStand(t: Pick<Test, 'teardown'>, options: { sockets?: boolean; answer?: Handler } = {}): Promise<Stand> {
  const runDir = mkdtempSync(join(tmpdir(), 'postern-run-'))
  mkdirSync(join(runDir, 'routes'))
  writeFileSync(join(runDir, 'routes/.mark'), '1\n')
  t.teardown(() => rmSync(runDir, { recursive: true, force: true }))
  const seen: Seen[] = []
  const serve = (door: Seen['door']) => (request: http.IncomingMessage | http2.Http2ServerRequest, response: unknown): void => {
    let bytes = 0
    request.on('data', (chunk: Buffer) => { bytes += chunk.length })
    request.on('error', () => undefined)
    request.on('end', () => {
      seen.push({ door, method: request.method ?? '', path: request.url ?? '', fields: request.headers, bytes })
      if (options.answer !== undefined) options.answer(request, response as http.ServerResponse)
      else (response as http.ServerResponse).end('ok')
    })
  }
  const h1 = http.createServer({ keepAliveTimeout: 0 }, serve('h1'))
  const h2 = http2.createServer(serve('h2'))
  const agents = http.createServer(serve('agents'))
  const sockets = new Set<net.Socket>()
  for (const server of [h1, h2, agents]) server.on('connection', (socket: net.Socket) => sockets.add(socket))
  for (const [server, door] of [[h1, 'h1'], [agents, 'agents']] as const) {
    server.on('upgrade', (request: http.IncomingMessage, socket: net.Socket) => {
      seen.push({ door, method: request.method ?? '', path: request.url ?? '', fields: request.headers, bytes: 0 })
      socket.on('error', () => undefined)
      socket.end(`HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${String(request.headers.upgrade)}\r\n\r\nhello`)
    })
  }
  if (options.sockets !== false) {
    for (const [server, name] of [[h1, 'ingress.sock'], [h2, 'ingress-h2.sock'], [agents, 'agents.sock']] as const) {
      await new Promise<void>((resolve) => server.listen(join(runDir, name), resolve))
      t.teardown(() => new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(resolve)
      }))
    }
  }
  return { runDir, seen, route: (name, text) => writeFileSync(join(runDir, 'routes', name), text), plain: (name, text) => writeFileSync(join(runDir, 'routes', name), text, { mode: 0o744 }) }
}

export interface Reply {
  readonly status: number
  readonly fields: string
  readonly body: string
}

/** Sends these bytes and reads until nginx closes: say `Connection: close`. */
export function raw(port: number, bytes: string): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes, 'latin1'))
    let text = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => { text += chunk })
    socket.on('error', reject)
    socket.on('close', () => {
      const end = text.indexOf('\r\n\r\n')
      resolve({ status: Number(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1] ?? 0), fields: text.slice(0, end), body: text.slice(end + 4) })
    })
  })
}

/** A GET of `path` at `host`, with more field lines. */
export function get(port: number, host: string, path = '/', lines: readonly string[] = []): Promise<Reply> {
  return raw(port, [`GET ${path} HTTP/1.1`, `Host: ${host}`, ...lines, ...(lines.some((line) => /^connection:/i.test(line)) ? [] : ['Connection: close']), '', ''].join('\r\n'))
}

// Somebody between agent and gateway: passes on what both say, keeps all of it, changes it if so told. With a certificate it ends TLS, as a firewall that looks inside.
import net from 'node:net'
import tls from 'node:tls'
import type { Ends } from '../harness/origin.ts'

/** One connection, as it was heard. */
export interface Heard {
  readonly toGateway: Buffer[]
  readonly toAgent: Buffer[]
}

export interface BetweenOptions {
  /** The gateway: a port, or its socket. */
  readonly target: number | string
  /** A path to listen on, instead of a port. */
  readonly at?: string
  /** Ends TLS with this, and speaks TLS to the gateway itself. */
  readonly certificate?: { readonly cert: string; readonly key: string }
}

export interface Between {
  readonly port: number
  readonly heard: Heard[]
  /** Changes what passes from now on; undefined: nothing. */
  change: ((bytes: Buffer, to: 'gateway' | 'agent') => Buffer) | undefined
  /** Cuts all connections that are there. */
  cut(): void
  /** All bytes in either direction, a connection after the other. */
  all(): Buffer[]
}

export async function startBetween(t: Ends, options: BetweenOptions): Promise<Between> {
  const { certificate, target } = options
  const heard: Heard[] = []
  const sockets = new Set<net.Socket>()
  const serve = (near: net.Socket): void => {
    const one: Heard = { toGateway: [], toAgent: [] }
    heard.push(one)
    const spoken = near instanceof tls.TLSSocket ? near.alpnProtocol : null
    const far = certificate !== undefined
      ? tls.connect({ port: target as number, host: '127.0.0.1', rejectUnauthorized: false, ...(typeof spoken === 'string' ? { ALPNProtocols: [spoken] } : {}) })
      : typeof target === 'number' ? net.connect(target, '127.0.0.1') : net.connect(target)
    for (const [from, sink, to] of [[near, far, 'gateway'], [far, near, 'agent']] as const) {
      sockets.add(from)
      from.on('data', (chunk: Buffer) => {
        one[to === 'gateway' ? 'toGateway' : 'toAgent'].push(Buffer.from(chunk))
        sink.write(between.change?.(Buffer.from(chunk), to) ?? chunk)
      })
      from.on('end', () => sink.end())
      from.on('error', () => undefined)
      from.on('close', () => {
        sockets.delete(from)
        sink.destroy()
      })
    }
  }
  const server = certificate === undefined ? net.createServer({ allowHalfOpen: true }, serve) : tls.createServer({ ...certificate, ALPNProtocols: ['h2', 'http/1.1', 'postern'] }, serve)
  await new Promise<void>((resolve) => server.listen(options.at === undefined ? { port: 0, host: '127.0.0.1' } : { path: options.at }, resolve))
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(() => {
    server.close()
    cut()
  })
  const between: Between = {
    port: options.at === undefined ? (server.address() as net.AddressInfo).port : 0,
    heard,
    change: undefined,
    cut,
    all: () => heard.flatMap(({ toGateway, toAgent }) => [Buffer.concat(toGateway), Buffer.concat(toAgent)]),
  }
  return between
}

/** Each byte with the fourth after it: what stays the same under any mask of a websocket. */
function unmasked(bytes: Buffer): Buffer {
  const out = Buffer.alloc(Math.max(0, bytes.length - 4))
  for (let i = 0; i < out.length; i++) out[i] = bytes[i]! ^ bytes[i + 4]!
  return out
}

/** Does `word` stand in `bytes`: as it is, in base64 (of it or what holds it), in hexadecimal, or under a mask? */
export function holds(bytes: Buffer, word: string): boolean {
  const raw = Buffer.from(word, 'latin1')
  // What the first and the last characters of base64 are depends on what stands beside the word.
  const inBase64 = [0, 1, 2].map((before) => Buffer.concat([Buffer.alloc(before), raw]).toString('base64').slice(before === 0 ? 0 : before + 1, -4))
  if (bytes.includes(raw) || bytes.includes(raw.toString('hex')) || inBase64.some((part) => bytes.includes(part))) return true
  return unmasked(bytes).includes(unmasked(raw))
}

// A visitor: asks nginx for a published service with node:http and sees everything of the answer, or how it broke.
import { createHash } from 'node:crypto'
import http from 'node:http'
import type { Readable } from 'node:stream'

export interface Ask {
  readonly port: number
  readonly host?: string
  readonly method?: string
  readonly path?: string
  /** In order, repetition kept: name, value, name, value, … */
  readonly headers?: readonly string[]
  readonly body?: string | Buffer | Readable
  readonly agent?: http.Agent
}

export interface Answered {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
  readonly sha256: string
  readonly bytes: number
  readonly trailers: NodeJS.Dict<string>
  /** The answer ended as its framing said it would. */
  readonly complete: boolean
}

export const HOST = 'demo.localhost'
/** Bodies above this are hashed and counted, not kept. */
const KEPT_MAX_BYTES = 1024 * 1024

/** Begins a request; resolves with the head of the answer. The caller reads the body. */
export function begin(ask: Ask): { request: http.ClientRequest; answer: Promise<http.IncomingMessage> } {
  const headers = ['Host', ask.host ?? HOST, ...(ask.headers ?? [])]
  const request = http.request({ host: '127.0.0.1', port: ask.port, method: ask.method ?? 'GET', path: ask.path ?? '/', headers, setHost: false, agent: ask.agent ?? false })
  const answer = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve)
    request.once('error', reject)
  })
  answer.catch(() => undefined)
  return { request, answer }
}

/** Sends a whole request and takes the whole answer. Rejects only where not even a head came. */
export async function visit(ask: Ask): Promise<Answered> {
  const { request, answer } = begin(ask)
  if (ask.body === undefined || typeof ask.body === 'string' || Buffer.isBuffer(ask.body)) request.end(ask.body)
  else ask.body.pipe(request)
  return read(await answer)
}

export async function read(response: http.IncomingMessage): Promise<Answered> {
  const hash = createHash('sha256')
  const kept: Buffer[] = []
  let bytes = 0
  await new Promise<void>((resolve) => {
    response.on('data', (chunk: Buffer) => {
      hash.update(chunk)
      bytes += chunk.length
      if (bytes <= KEPT_MAX_BYTES) kept.push(chunk)
    })
    // A broken body is told by `complete`, which is false then.
    response.on('error', () => undefined)
    response.once('close', resolve)
  })
  return {
    status: response.statusCode!,
    headers: response.headers,
    rawHeaders: response.rawHeaders,
    body: Buffer.concat(kept),
    sha256: hash.digest('hex'),
    bytes,
    trailers: response.trailers,
    complete: response.complete,
  }
}

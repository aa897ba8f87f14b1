// Visitors who never rest: small requests, downloads, uploads and echoes of a size, each checked by its hash, until told to stop.
import { createHash } from 'node:crypto'
import type http from 'node:http'
import { body, hashOf } from './bodies.ts'
import { type Answered, type Ask, HOST, visit } from './visitor.ts'

const SEED = { download: 5, echo: 6, upload: 7 } as const

/** What an origin has to answer for {@link startLoad}. */
export const loadOrigin =
  (largeBytes: number): http.RequestListener =>
  (request, response) => {
    if (request.url === '/echo') return void request.pipe(response)
    if (request.url === '/hash') {
      const hash = createHash('sha256')
      request.on('data', (chunk: Buffer) => hash.update(chunk))
      return void request.on('end', () => response.end(hash.digest('hex')))
    }
    request.resume()
    if (request.url === '/large') return void body(SEED.download, largeBytes).pipe(response)
    return void response.end('ok')
  }

export interface Load {
  /** Whole answers so far. */
  small(): number
  large(): number
  /** What went wrong, in words; empty if nothing did. */
  readonly failures: readonly string[]
  /** Lets everything that is under way end. */
  stop(): Promise<void>
}

/** One download, one upload and one echo of `largeBytes`, and four visitors with small requests, all again and again. */
export function startLoad(port: number, largeBytes: number, host = HOST): Load {
  const failures: string[] = []
  const done = { small: 0, large: 0 }
  let stopping = false
  const hashes = { download: hashOf(SEED.download, largeBytes), echo: hashOf(SEED.echo, largeBytes), upload: hashOf(SEED.upload, largeBytes) }

  const again = async (kind: 'small' | 'large', what: string, ask: () => Ask, isRight: (answer: Answered) => boolean): Promise<void> => {
    while (!stopping) {
      try {
        const answer = await visit(ask())
        if (answer.status === 200 && answer.complete && isRight(answer)) done[kind]++
        else failures.push(`${what}: ${String(answer.status)}, ${String(answer.bytes)} bytes, complete: ${String(answer.complete)} ${answer.body.toString().slice(0, 200)}`)
      } catch (error) {
        failures.push(`${what}: ${String(error)}`)
      }
      // A site that is away must not fill the memory with its failures.
      if (failures.length > 100) return
    }
  }
  const chunked = ['Transfer-Encoding', 'chunked']
  const visitors = [
    again('large', 'download', () => ({ port, host, path: '/large' }), (answer) => answer.sha256 === hashes.download),
    again('large', 'echo', () => ({ port, host, method: 'POST', path: '/echo', headers: chunked, body: body(SEED.echo, largeBytes) }), (answer) => answer.sha256 === hashes.echo),
    again('large', 'upload', () => ({ port, host, method: 'PUT', path: '/hash', headers: chunked, body: body(SEED.upload, largeBytes) }), (answer) => answer.body.toString() === hashes.upload),
    ...Array.from({ length: 4 }, () => again('small', 'small', () => ({ port, host, path: '/small' }), (answer) => answer.body.toString() === 'ok')),
  ]
  return {
    small: () => done.small,
    large: () => done.large,
    failures,
    stop: async () => {
      stopping = true
      await Promise.all(visitors)
    },
  }
}

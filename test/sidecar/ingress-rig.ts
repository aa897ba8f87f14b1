// An ingress on a unix socket with a carry that a test scripts, and raw connections to it.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Answer, Carry, Exchange, Request } from '../../sidecar/carry.ts'
import { IngressH1 } from '../../sidecar/ingress-h1.ts'
import { IngressH2 } from '../../sidecar/ingress-h2.ts'
import { PlainRoutes } from '../../sidecar/plain-routes.ts'
import type { ErrorCode } from '../../protocol/errors.ts'
import { type Fields, NO_FIELDS } from '../../protocol/stream.ts'

export const UUID = '0123456789abcdef0123456789abcdef'
export const ENVELOPE = `1;${UUID};demo;192.0.2.7;4711;http;demo.localhost:8080;77;`

/** One exchange as the gateway library would see it. */
export class Carried implements Exchange {
  agent = ''
  readonly request: Request
  readonly answer: Answer
  body: Buffer
  complete: boolean
  room = true
  trailers: Fields = NO_FIELDS
  taken = 0
  cancelled: ErrorCode | undefined
  constructor(request: Request, body: Uint8Array, complete: boolean, answer: Answer) {
    this.request = request
    this.body = Buffer.from(body)
    this.complete = complete
    this.answer = answer
  }
  give(chunk: Uint8Array): boolean {
    return this.write(chunk)
  }

  write(chunk: Uint8Array): boolean {
    this.body = Buffer.concat([this.body, chunk])
    return this.room
  }
  end(trailers: Fields = NO_FIELDS): void {
    this.complete = true
    this.trailers = trailers
  }
  consumed(bytes: number): void {
    this.taken += bytes
  }
  cancel(code: ErrorCode): void {
    this.cancelled = code
  }
  field(name: string): string[] {
    return this.request.fields.flatMap((each, i) => (i % 2 === 0 && each.toLowerCase() === name ? [this.request.fields[i + 1]!] : []))
  }
}

export interface Rig {
  readonly path: string
  readonly carried: Carried[]
  readonly reports: string[]
  readonly h1: IngressH1
}

export async function startIngress(t: Test, script: (carried: Carried) => void, door: 'h1' | 'h2' = 'h1'): Promise<Rig> {
  const carried: Carried[] = []
  const reports: string[] = []
  const carry: Carry = (request, body, complete, answer) => {
    const each = new Carried(request, body, complete, answer)
    carried.push(each)
    script(each)
    return each
  }
  const report = (_uuid: string, code: ErrorCode): void => void reports.push(code.name)
  const plain = new PlainRoutes({ now: () => 0, soon: (then) => then(), later: () => () => undefined })
  plain.set('plain.test', 'plain')
  const h1 = new IngressH1(carry, plain, report)
  const ingress = door === 'h1' ? h1 : new IngressH2(carry, plain, report)
  // A unix socket's path holds 107 bytes: tap's folders are longer.
  const folder = mkdtempSync(join(tmpdir(), 'ingress-'))
  const path = join(folder, 'in.sock')
  const server: Server = ingress.server
  server.listen(path)
  await once(server, 'listening')
  t.teardown(() => {
    ingress.destroy()
    rmSync(folder, { recursive: true, force: true })
  })
  return { path, carried, reports, h1 }
}

export class Raw {
  readonly socket: Socket
  text = ''
  ended = false
  constructor(path: string) {
    this.socket = connect({ path, allowHalfOpen: true })
    this.socket.on('data', (chunk: Buffer) => (this.text += chunk.toString('latin1')))
    this.socket.on('end', () => (this.ended = true))
    this.socket.on('error', () => (this.ended = true))
  }
}

export function get(path = '/', fields = '', method = 'GET'): string {
  return `${method} ${path} HTTP/1.1\r\nHost: demo.localhost\r\nPostern: ${ENVELOPE}\r\n${fields}\r\n`
}

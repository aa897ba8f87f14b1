// The ingress for nginx's HTTP/1.1 connections: small bodies, no bodies, upgrades. Never closes an idle connection, sends no 1xx but 101, and 103 to an nginx that knows it.
import { createServer, type Server, type Socket } from 'node:net'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { HEAD_MAX_BYTES } from '../protocol/limits.ts'
import type { Carry } from './carry.ts'
import { readEnvelope, wrapRequest } from './envelope.ts'
import { H1Turn } from './h1-turn.ts'
import type { PlainRoutes } from './plain-routes.ts'
import { readRequestHead } from './request-head.ts'

/** For the log: what went wrong with the exchange of this command uuid ('-' if it never had one). */
export type Report = (uuid: string, code: ErrorCode, detail: string) => void

const EMPTY = Buffer.alloc(0)
// What is told of a refusal may be read from a head that can't be believed.
const ACCEPT = /\r\naccept:([^\r\n]*)/i
const COMMAND = /\r\npostern: 1;([0-9a-f]{32});/i
const END_OF_HEAD = Buffer.from('\r\n\r\n')

export class IngressH1 {
  readonly server: Server
  readonly carry: Carry
  readonly plain: PlainRoutes
  readonly report: Report
  /** From now on each answer says `Connection: close`. */
  leaving = false
  private readonly connections = new Set<H1Connection>()

  /** Not yet listening. */
  constructor(carry: Carry, plain: PlainRoutes, report: Report) {
    this.carry = carry
    this.plain = plain
    this.report = report
    this.server = createServer({ allowHalfOpen: true, noDelay: false }, (socket) => {
      const connection = new H1Connection(this, socket)
      this.connections.add(connection)
      socket.once('close', () => this.connections.delete(connection))
    })
  }

  /** Connections close with their next answer. */
  leave(): void {
    this.leaving = true
  }

  /** Ends every connection, whatever is under way on it. */
  destroy(): void {
    this.server.close()
    for (const { socket } of this.connections) socket.destroy()
  }
}

export class H1Connection {
  readonly socket: Socket
  readonly ingress: IngressH1
  /** No request comes after the one under way. */
  last = false
  private turn: H1Turn | undefined
  /** Bytes that are not yet anybody's: the beginning of a head, or what came behind a request that is still under way. */
  private rest: Buffer = EMPTY
  private feeding = false
  private corked = false
  private paused = false

  constructor(ingress: IngressH1, socket: Socket) {
    this.ingress = ingress
    this.socket = socket
    // What Node reads comes here at once, past the queue of its stream, which costs more than the parsing. False stops the reading.
    const { push } = socket
    socket.push = (chunk: Buffer | null) => {
      if (chunk === null) return push.call(socket, null)
      this.feed(chunk)
      return !this.paused
    }
    socket.on('end', () => this.visitorEnded())
    socket.on('close', () => {
      const { turn } = this
      this.turn = undefined
      turn?.left()
    })
    // What it broke of is told by its close.
    socket.on('error', () => {})
  }

  private feed(chunk: Buffer): void {
    let bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    this.rest = EMPTY
    this.feeding = true
    while (bytes.length > 0 && !this.last) {
      const used: number = this.turn === undefined ? this.begin(bytes) : this.turn.take(bytes)
      if (used === 0) break
      bytes = used === bytes.length ? EMPTY : bytes.subarray(used)
    }
    this.feeding = false
    // What follows the last request's own bytes is nobody's; its body and tunnel are still read.
    if (this.last && this.turn !== undefined && bytes.length > 0) bytes = bytes.subarray(this.turn.take(bytes))
    if (this.last && this.turn?.mayTakeLater !== true) return
    this.rest = bytes
    // Behind a request under way no more is read than this.
    if (bytes.length > 0 && this.turn !== undefined) this.pause()
  }

  /** How many bytes the head at the front and what of its body is here take; 0 if the head is not whole. */
  private begin(bytes: Buffer): number {
    const end = bytes.indexOf(END_OF_HEAD)
    if (end === -1 && bytes.length <= HEAD_MAX_BYTES) return 0
    const text = bytes.toString('latin1', 0, end === -1 ? HEAD_MAX_BYTES : end)
    const head = end === -1 ? errors.head_too_large : readRequestHead(text)
    if ('says' in head) return this.refuse(head, bytes.length, ACCEPT.exec(text)?.[1] ?? '', COMMAND.exec(text)?.[1] ?? '-')
    let accept = ''
    for (let i = 0; i < head.fields.length; i += 2) if (head.fields[i]!.length === 6 && head.fields[i]!.toLowerCase() === 'accept') accept += `,${head.fields[i + 1]!}`
    const envelope = readEnvelope(head.envelope)
    if (envelope === undefined) return this.refuse(errors.bad_request, bytes.length, accept, COMMAND.exec(text)?.[1] ?? '-')
    const request = wrapRequest(envelope, this.ingress.plain, head.method, head.target, head.upgrade, head.fields)
    if ('says' in request) return this.refuse(request, bytes.length, accept, envelope.uuid)
    const from = end + END_OF_HEAD.length
    const to = Math.min(bytes.length, from + head.bodyBytes)
    if (this.ingress.leaving) this.last = true
    const turn = new H1Turn(this, request.uuid, envelope.service === '' ? request.service : '', head.method, head.upgrade, accept, head.bodyBytes, envelope.earlyHints)
    this.turn = turn
    turn.start(this.ingress.carry, request, bytes.subarray(from, to))
    return to
  }

  // After a head that can be read in two ways nothing on the connection can be believed.
  private refuse(code: ErrorCode, bytes: number, accept: string, uuid: string): number {
    this.last = true
    new H1Turn(this, uuid, '', 'GET', '', accept, 0, false).fail(code, 'the request head')
    return bytes
  }

  /** The turn's answer is out and its request is in. */
  finished(turn: H1Turn): void {
    if (this.turn === turn) this.turn = undefined
    if (this.last) return void this.socket.end(() => this.socket.destroy())
    this.more()
  }

  /** Reads on, first what is here already. */
  more(): void {
    if (this.feeding) return
    const { rest } = this
    this.rest = EMPTY
    if (rest.length > 0) this.feed(rest)
    if (this.rest.length === 0 || this.turn === undefined) this.resume()
  }

  /** Reads no more than what is on its way already, one chunk at most. Until then it is not seen, either, that the other side has left. */
  pause(): void {
    this.paused = true
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    // Begins to read again, if it was stopped.
    this.socket._read(0)
  }

  /** Everything written until the end of this turn of the event loop leaves in one system call. */
  cork(): void {
    if (this.corked) return
    this.corked = true
    this.socket.cork()
    process.nextTick(uncork, this)
  }

  uncork(): void {
    this.corked = false
    this.socket.uncork()
  }

  private visitorEnded(): void {
    if (this.turn?.tunnels === true) this.turn.visitorEnded()
    else this.socket.destroy()
  }
}

const uncork = (connection: H1Connection): void => connection.uncork()

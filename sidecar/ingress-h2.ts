// The ingress for nginx's grpc_pass: HTTP/2 without TLS, bodies of any size and unknown length, trailers both ways.
import { constants, createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { TOKEN } from '../protocol/field-name.ts'
import { HEAD_MAX_BYTES } from '../protocol/limits.ts'
import { type Fields, NO_FIELDS } from '../protocol/stream.ts'
import type { Answer, Carry, Exchange, Request } from './carry.ts'
import { readEnvelope, wrapRequest } from './envelope.ts'
import type { Report } from './ingress-h1.ts'
import type { PlainRoutes } from './plain-routes.ts'
import { refuse } from './refusal.ts'
import { CONTROL, LENGTH } from './request-head.ts'
import { checkResponseHead, checkTrailers, isBodiless } from './response-head.ts'

/** nginx puts one request on a connection of grpc_pass at a time: more than a few streams is not nginx. */
const STREAMS_MAX_COUNT = 128
/** What nginx sends of a head at most (large_client_header_buffers): what Node does not read it resets, which nginx tells its visitor as our absence instead of 431. */
const HEAD_READ_MAX_BYTES = 262_144
const HEAD_READ_MAX_FIELDS = 4_096
/** What nginx may send of a body before an agent granted credit: the window of a new exchange. */
const WINDOW_BYTES = 65_536
/** Without a Date of the origin's none is made up. Node takes this, its types do not know it. */
const NO_DATE: object = { sendDate: false }

export class IngressH2 {
  readonly server: Http2Server
  private readonly sessions = new Set<ServerHttp2Session>()

  /** Not yet listening. */
  constructor(carry: Carry, plain: PlainRoutes, report: Report) {
    this.server = createServer({
      maxSessionInvalidFrames: 10,
      strictSingleValueFields: false,
      settings: { maxConcurrentStreams: STREAMS_MAX_COUNT, initialWindowSize: WINDOW_BYTES, maxHeaderListSize: HEAD_READ_MAX_BYTES, enablePush: false },
      maxHeaderListPairs: HEAD_READ_MAX_FIELDS,
    })
    this.server.on('session', (session) => {
      this.sessions.add(session)
      session.on('error', () => {})
      session.once('close', () => this.sessions.delete(session))
    })
    this.server.on('stream', (stream, _headers, flags, raw) => begin(stream as ServerHttp2Stream, raw, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0, carry, plain, report))
    this.server.on('sessionError', () => {})
  }

  /** Connections close with their next answer; an idle one is not closed, for nginx may be writing to it. */
  leave(): void {
    this.server.on('stream', (stream) => stream.session?.close())
  }

  /** Ends every connection, whatever is under way on it. */
  destroy(): void {
    this.server.close()
    for (const session of this.sessions) session.destroy()
  }
}

function begin(stream: ServerHttp2Stream, raw: readonly string[], ended: boolean, carry: Carry, plain: PlainRoutes, report: Report): void {
  stream.on('error', () => {})
  const head = readHead(raw, plain)
  // What is told of a refusal may be read from a head that can't be believed.
  const turn =
    'says' in head
      ? new H2Turn(stream, report, valueOf(raw, ':method'), valueOf(raw, 'accept'), /^1;([0-9a-f]{32});/.exec(valueOf(raw, 'postern'))?.[1] ?? '-', '')
      : new H2Turn(stream, report, head.method, head.accept, head.request.uuid, head.service)
  if ('says' in head) turn.fail(head, 'the request head')
  else turn.start(carry, head, ended)
}

function valueOf(raw: readonly string[], name: string): string {
  for (let i = 0; i < raw.length; i += 2) if (raw[i] === name) return raw[i + 1]!
  return ''
}

interface Head {
  readonly request: Request
  /** '' if nginx knows it. */
  readonly service: string
  readonly earlyHints: boolean
  readonly method: string
  readonly accept: string
  /** Content-Length, -1 without one. */
  readonly length: number
}

function readHead(raw: readonly string[], plain: PlainRoutes): Head | ErrorCode {
  let method = ''
  let path = ''
  let accept = ''
  let envelope = ''
  let length = -1
  let bytes = 0
  const fields: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!
    const value = raw[i + 1]!
    bytes += name.length + value.length + 4
    if (name === ':method') method = value
    else if (name === ':path') path = value
    else if (!name.startsWith(':')) {
      if (!TOKEN.test(name) || CONTROL.test(value) || name === 'transfer-encoding') return errors.bad_request
      if (name === 'content-length') {
        if (length !== -1 || !LENGTH.test(value)) return errors.bad_request
        length = Number(value)
      }
      if (name === 'postern') {
        if (envelope !== '') return errors.bad_request
        envelope = value
      } else if (name === 'accept') accept += `,${value}`
      fields.push(name, value)
    }
  }
  if (bytes > HEAD_MAX_BYTES) return errors.head_too_large
  if (!TOKEN.test(method) || method === 'CONNECT' || !/^\/[\x21\x22\x24-\x7e\x80-\xff]*$/.test(path)) return errors.bad_request
  const read = readEnvelope(envelope)
  if (read === undefined) return errors.bad_request
  const request = wrapRequest(read, plain, method, path, '', fields)
  return 'says' in request ? request : { request, service: read.service === '' ? request.service : '', earlyHints: read.earlyHints, method, accept, length }
}

class H2Turn implements Answer {
  private readonly stream: ServerHttp2Stream
  private readonly report: Report
  private readonly method: string
  private readonly accept: string
  private readonly uuid: string
  private readonly service: string
  private exchange: Exchange | undefined
  private earlyHints = false
  private received = 0
  private stoppedReading = false
  private over = false
  private bodiless = false
  private length = -1
  private sent = 0
  private owed = 0
  private cancelledWith: ErrorCode | undefined
  private trailers: Fields = NO_FIELDS

  constructor(stream: ServerHttp2Stream, report: Report, method: string, accept: string, uuid: string, service: string) {
    this.stream = stream
    this.report = report
    this.method = method
    this.accept = accept
    this.uuid = uuid
    this.service = service
  }

  start(carry: Carry, { request, length, earlyHints }: Head, ended: boolean): void {
    const { stream } = this
    this.earlyHints = earlyHints
    let trailers: Fields = NO_FIELDS
    const exchange = carry(request, Buffer.alloc(0), ended, this)
    this.exchange = exchange
    if (this.cancelledWith !== undefined) exchange.cancel(this.cancelledWith)
    else this.settle()
    stream.on('close', () => {
      if (this.over && stream.rstCode === constants.NGHTTP2_NO_ERROR) return
      this.over = true
      this.cancel(errors.cancelled)
    })
    stream.on('data', (chunk: Buffer) => {
      this.received += chunk.length
      if (length !== -1 && this.received > length) return this.visitorBreaks()
      if (!this.over && !this.stoppedReading && !exchange.write(chunk)) stream.pause()
    })
    stream.on('trailers', (_trailers, _flags, raw?: string[]) => {
      trailers = raw === undefined ? NO_FIELDS : (checkTrailers(raw) ?? NO_FIELDS)
    })
    stream.on('end', () => {
      if (ended || stream.aborted) return
      if (length !== -1 && this.received !== length) return this.visitorBreaks()
      if (!this.over && !this.stoppedReading) exchange.end(trailers)
    })
  }

  private visitorBreaks(): void {
    if (this.over) return
    this.cancel(errors.body_incomplete)
    this.fail(errors.body_incomplete, 'Content-Length is not the length of the body')
  }

  // nginx before 1.29 takes any 1xx for the answer, and one that knows 103 knows no other.
  interim(fields: Fields): void {
    if (!this.earlyHints || fields[1] !== '103' || this.over || this.stream.destroyed) return
    tell([':status', '103', ...checkTrailers(fields.slice(2))!], (named) => this.stream.additionalHeaders(named))
  }

  head(fields: Fields, body: Uint8Array, ended: boolean): void {
    const head = checkResponseHead(fields, false)
    if (typeof head === 'string') return this.breaks(head)
    this.bodiless = isBodiless(this.method, head.status)
    if (this.bodiless && body.length > 0) return this.breaks('a body where none may be')
    this.length = this.bodiless ? -1 : head.length
    if (this.length !== -1 && (ended ? body.length !== this.length : body.length > this.length)) return this.breaks('Content-Length is not the length of the body')
    this.respond(head.status, head.fields, ended && !this.bodiless ? body.length : head.length)
    if (body.length > 0) this.data(body)
    if (ended) this.end(NO_FIELDS)
  }

  private respond(status: number, fields: readonly string[], length: number): void {
    const raw = [':status', String(status), ...fields, ...this.forLog()]
    if (length !== -1 && status !== 204) raw.push('content-length', String(length))
    tell(raw, (named) => this.stream.respond(named, { ...NO_DATE, waitForTrailers: !this.bodiless, endStream: this.bodiless }))
    if (!this.bodiless) this.stream.on('wantTrailers', () => this.sendTrailers())
  }

  /** What nginx does not know and its log may tell. */
  private forLog(): string[] {
    const agent = this.exchange?.agent ?? ''
    return [...(this.service === '' ? [] : ['postern-service', this.service]), ...(agent === '' ? [] : ['postern-agent', agent])]
  }

  private sendTrailers(): void {
    // Without any, Node ends the stream by an empty DATA frame; close() would reset it, which nginx takes for a broken body.
    tell(this.trailers, (named) => this.stream.sendTrailers(named))
  }

  private readonly settle = (): void => {
    const taken = this.owed - Math.min(this.owed, this.stream.writableLength)
    if (taken === 0 || this.exchange === undefined) return
    this.owed -= taken
    this.exchange.consumed(taken)
  }

  data(chunk: Uint8Array): void {
    if (chunk.length === 0 || this.over) return
    this.sent += chunk.length
    if (this.bodiless) return this.breaks('a body where none may be')
    if (this.length !== -1 && this.sent > this.length) return this.breaks('more body than Content-Length')
    this.owed += chunk.length
    this.stream.write(chunk, this.settle)
  }

  end(trailers: Fields): void {
    if (this.over) return
    if (this.length !== -1 && this.sent !== this.length) return this.breaks('less body than Content-Length')
    const checked = checkTrailers(trailers)
    if (checked === undefined) return this.breaks('a trailer that is no field')
    this.trailers = checked
    this.over = true
    this.stream.end()
    this.stream.resume()
  }

  fail(code: ErrorCode, detail: string, retryAfterS?: number): void {
    if (this.over) return
    this.over = true
    this.report(this.uuid, code, detail)
    if (this.stream.destroyed) return
    if (this.stream.headersSent) return this.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
    const refusal = refuse(code, this.accept, this.uuid, retryAfterS)
    const raw = [...refusal.fields, ...this.forLog(), 'content-length', String(refusal.body.length)]
    tell(raw, (named) => this.stream.respond(named, { ...NO_DATE, endStream: this.method === 'HEAD' }))
    if (this.method !== 'HEAD') this.stream.end(refusal.body)
    this.stream.resume()
  }

  stopped(): void {
    this.stoppedReading = true
    this.stream.resume()
  }

  drain(): void {
    this.stream.resume()
  }

  private breaks(detail: string): void {
    this.cancel(errors.agent_protocol)
    this.fail(errors.agent_protocol, detail)
  }

  private cancel(code: ErrorCode): void {
    this.cancelledWith = code
    this.exchange?.cancel(code)
  }
}

type Named = Record<string, string | string[]>

/** Gives fields to Node as every version takes them, the values of a name in order. One that knows no strictSingleValueFields does not repeat some names: joined then. */
function tell(fields: Fields, give: (named: Named) => void): void {
  const named = Object.create(null) as Named
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!.toLowerCase()
    const before = named[name]
    const value = fields[i + 1]!
    named[name] = before === undefined ? value : Array.isArray(before) ? [...before, value] : [before, value]
  }
  try {
    give(named)
  } catch {
    for (const [name, value] of Object.entries(named)) if (Array.isArray(value) && name !== 'set-cookie') named[name] = value.join(', ')
    give(named)
  }
}

// The answer to one request of an http channel: what of it may be used, or what is wrong with it and who says so (SPEC §14).
import type { IncomingHttpHeaders } from 'node:http'
import { type Dispatcher, errors as undiciErrors } from 'undici'
import { BODY_MAX_BYTES } from '../protocol/http-channel.ts'
import { type DialFailure, failureOf, httpFailure } from './channel-dial.ts'
import { proxyRefusal } from './proxy-http.ts'
import { ProxyError, type Way } from './way.ts'

/** Of a refusal that says why, so much is told. */
const REASON_MAX_CHARACTERS = 100
const REFUSAL_TYPE = 'text/plain'
/** What a gateway refuses a request with. */
const REFUSALS: ReadonlySet<number> = new Set([403, 405, 409, 413])

export interface Expectation {
  /** The content type of a good answer; undefined: a good one has no body. */
  readonly type: string | undefined
  /** May a good one say nothing? */
  readonly mayBeEmpty: boolean
  /** It stays, and may have any length. */
  readonly stays: boolean
}

export interface AnswerEvents {
  /** The request leaves. */
  onLeave(): void
  onData(chunk: Buffer): void
  /** Last of all, once. */
  onOver(failure: DialFailure | undefined): void
}

/** Whom it was asked of. */
export interface Asked {
  /** The gateway, for people. */
  readonly host: string
  readonly way: Way
}

export class HttpAnswer implements Dispatcher.DispatchHandler {
  private readonly asked: Asked
  private readonly expectation: Expectation
  private readonly events: AnswerEvents
  private status = 0
  private statusText = ''
  private headers: IncomingHttpHeaders = {}
  private bytes = 0
  /** What a refusal says, as far as it came. */
  private reason: string | undefined
  private over = false

  constructor(asked: Asked, expectation: Expectation, events: AnswerEvents) {
    this.asked = asked
    this.expectation = expectation
    this.events = events
  }

  onRequestStart(): void {
    this.events.onLeave()
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders, statusText = ''): void {
    if (status < 200) return
    this.status = status
    this.statusText = statusText
    this.headers = headers
    const { type, mayBeEmpty } = this.expectation
    const encoding = headers['content-encoding'] ?? 'identity'
    if (encoding !== 'identity') return this.refuse(controller, this.refusal(`packed on the way (${String(encoding)})`))
    if (status === 204 && mayBeEmpty) return
    if (status === 200 && this.type === type) return this.isMeasured ? undefined : this.refuse(controller, this.refusal('of a length that nobody told'))
    if (this.type === REFUSAL_TYPE) this.reason = ''
    else this.refuse(controller, this.refusal(''))
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.bytes += chunk.length
    if (this.bytes > BODY_MAX_BYTES && !this.expectation.stays) return this.refuse(controller, this.refusal(`more than ${String(BODY_MAX_BYTES)} bytes`))
    if (this.reason !== undefined) this.reason = (this.reason + chunk.toString('latin1')).slice(0, REASON_MAX_CHARACTERS)
    else if (!this.over) this.events.onData(chunk)
  }

  onResponseEnd(): void {
    if (this.reason !== undefined) this.end(this.refusal(this.reason.split('\n', 1)[0]!.replaceAll(/[^ -~]/g, '?')))
    else this.end(undefined)
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: NodeJS.ErrnoException): void {
    const { host, way } = this.asked
    if (way.kind === 'forward' && !(error instanceof ProxyError)) this.end(failureOf(new ProxyError(`the proxy ${way.proxy.host} gives no answer: ${error.message}`), host))
    else if (error instanceof undiciErrors.HTTPParserError) this.end({ reason: 'http', detail: `${host}: what answers there is no HTTP server` })
    else this.end(failureOf(error, host))
  }

  private get type(): string {
    return String(this.headers['content-type']).split(';', 1)[0]!.trim().toLowerCase()
  }

  /** One whose length nobody told may lose its end without anybody knowing. */
  private get isMeasured(): boolean {
    return this.expectation.stays || this.headers['transfer-encoding'] !== undefined || this.headers['content-length'] !== undefined
  }

  // What there is of the answer is of no use: the connection goes with it.
  private refuse(controller: Dispatcher.DispatchController, failure: DialFailure): void {
    this.end(failure)
    controller.abort(new Error(failure.detail))
  }

  private end(failure: DialFailure | undefined): void {
    if (this.over) return
    this.over = true
    this.events.onOver(failure)
  }

  /** Behind a proxy that is asked for each request, it is the proxy who says so, or lets it be said. */
  private refusal(what: string): DialFailure {
    const { host, way } = this.asked
    const { status, statusText, headers } = this
    const words = what === '' ? '' : `: ${what}`
    if (way.kind === 'forward') {
      const said = status < 300 ? `an answer of type ${headers['content-type'] ?? 'none'}` : statusText
      return failureOf(proxyRefusal(way.proxy, 'gives an answer that is no gateway\'s', String(status), said + words), host)
    }
    if (REFUSALS.has(status) && what !== '') return { reason: 'http', detail: `refused (HTTP ${String(status)})${words}` }
    const failure = httpFailure(status, headers.location)
    return { ...failure, detail: failure.detail + words }
  }
}

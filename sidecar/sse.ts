// The gateway's end of an sse channel: what goes down are events of one stream that stays, each the base64 of a body of messages (SPEC §14).
import type { ServerResponse } from 'node:http'
import { EVENT_STREAM } from './http-answers.ts'
import { HttpCarrier, type HttpCarrierFacts } from './http-carrier.ts'

/** An event is of use once it is whole: on a slow link small ones arrive one after the other, where a large one would look like silence. */
const EVENT_BYTES = 65_536
/** What is on its way when the stream is cut may leave, if it is no more than this and takes no longer: nobody counts it. */
const CUT_MAX_BYTES = 131_072
const CUT_MAX_MS = 1_000

export class SseCarrier extends HttpCarrier {
  readonly kind = 'sse'
  private readonly response: ServerResponse

  constructor(facts: HttpCarrierFacts, response: ServerResponse) {
    super(facts)
    this.response = response
    response.on('drain', () => this.drained())
    response.on('close', () => this.gone('the connection of the event stream was closed'))
    response.writeHead(200, EVENT_STREAM)
    // An agent that does not get this soon knows that its events are held back on the way.
    response.write(`event: channel\ndata: ${this.id}\n\n`)
  }

  protected get polling(): boolean {
    return false
  }

  protected get leavingBytes(): number {
    return this.response.writableLength
  }

  protected flush(): void {
    let hasRoom = true
    while (this.waiting.count > 0) hasRoom = this.response.write(`data: ${this.take(EVENT_BYTES).toString('base64')}\n\n`, 'latin1')
    if (this.closing) this.response.end(() => this.gone('closed'))
    else if (hasRoom) this.drained()
  }

  protected cut(): void {
    const { response } = this
    if (response.destroyed || response.writableFinished) return
    // One that was closed has had its time.
    if (response.writableEnded || response.writableLength > CUT_MAX_BYTES) return void response.destroy()
    // A proper end: nginx takes a broken one for a fault of the gateway.
    response.on('close', this.clock.later(CUT_MAX_MS, () => response.destroy()))
    response.end()
  }
}

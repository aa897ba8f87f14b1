// The gateway's end of a long-poll channel: what goes down are answers to polls, one at a time, each a body of messages (SPEC §14).
import type { IncomingMessage, ServerResponse } from 'node:http'
import { BODY_MAX_BYTES, POLL_WAIT_MS } from '../protocol/http-channel.ts'
import type { Arrival } from './arrival.ts'
import { NO_CONTENT, refuse, WHOLE_BODY } from './http-answers.ts'
import { HttpCarrier } from './http-carrier.ts'

interface Poll {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly cancelWait: () => void
}

export class LongPollCarrier extends HttpCarrier {
  readonly kind = 'long-poll'
  private poll: Poll | undefined

  /** A GET that {@link judge} takes: it is answered as soon as there is something to say. */
  wait(request: IncomingMessage, response: ServerResponse, arrival: Arrival): void {
    if (this.closed) return refuse(request, response, CLOSED)
    // After a reload of nginx its polls come through the new workers by themselves.
    this.worker = arrival.worker
    this.poll = { request, response, cancelWait: this.clock.later(POLL_WAIT_MS, () => this.endPoll()?.response.writeHead(204, NO_CONTENT).end()) }
    response.on('close', () => {
      if (!response.writableFinished) this.gone('the connection of a poll was closed')
    })
    if (this.waiting.count > 0 || this.closing) this.flush()
  }

  protected get polling(): boolean {
    return this.poll !== undefined
  }

  // What was handed to an answer is the socket's: there is no second one to hold back.
  protected get leavingBytes(): number {
    return 0
  }

  protected flush(): void {
    if (this.waiting.count > 0) this.answer()
    if (this.closing && this.waiting.count === 0) this.gone('closed')
  }

  protected cut(): void {
    const poll = this.endPoll()
    if (poll?.response.destroyed === false) refuse(poll.request, poll.response, CLOSED)
  }

  private answer(): void {
    const poll = this.endPoll()
    if (poll === undefined) return
    const body = this.take(BODY_MAX_BYTES)
    poll.response.writeHead(200, { ...WHOLE_BODY, 'content-length': body.length }).end(body)
    this.drained()
  }

  private endPoll(): Poll | undefined {
    const poll = this.poll
    poll?.cancelWait()
    this.poll = undefined
    return poll
  }
}

const CLOSED = { status: 403, reason: 'the channel is closed' } as const

// The long-poll channel: messages come down as answers to polls, one at a time, and go up by POST (SPEC §14).
import { isCarrierId, MESSAGES_TYPE, Resource } from '../protocol/http-channel.ts'
import type { Dial } from './channel-dial.ts'
import { HttpCarrier } from './http-carrier.ts'
import { HttpRequests } from './http-requests.ts'

/** A gateway waits long before it says nothing; whatever says it sooner than this, twice in a row, would be asked for ever. */
const EMPTY_ANSWER_MIN_MS = 1_000

class LongPollCarrier extends HttpCarrier {
  readonly kind = 'long-poll'
  private wasHasty = false

  poll(): void {
    const askedAt = performance.now()
    let isEmpty = true
    this.requests.ask('down', this.next('GET'), { type: MESSAGES_TYPE, mayBeEmpty: true, stays: false }, {
      onLeave: nothing,
      onData: (part) => {
        isEmpty = false
        this.received(part)
      },
      onOver: (failure) => {
        if (failure !== undefined) return this.gone(failure.detail)
        this.bodyEnded()
        const hasty = isEmpty && performance.now() - askedAt < EMPTY_ANSWER_MIN_MS
        if (hasty && this.wasHasty) this.gone('polls are answered with nothing at once')
        this.wasHasty = hasty
        if (!this.closed) this.poll()
      },
    })
  }
}

const nothing = (): void => undefined

export const dialLongPoll: Dial = (options, done) => {
  const requests = new HttpRequests(options)
  requests.whole('up', { method: 'POST', resource: Resource.open }, 'text/plain', false, (outcome) => {
    if (!('reason' in outcome) && isCarrierId(outcome.toString('latin1'))) {
      const carrier = new LongPollCarrier(requests, outcome.toString('latin1'))
      done(carrier)
      // Only now: what the first poll brings is its new owner's.
      carrier.poll()
      return
    }
    requests.end()
    done('reason' in outcome ? outcome : { reason: 'http', detail: `${requests.host}: what answers there is no gateway` })
  })
  return () => requests.end()
}

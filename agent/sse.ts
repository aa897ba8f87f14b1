// The sse channel: messages come down as the events of one stream that stays, and go up by POST (SPEC §14).
import { EVENTS_TYPE, isCarrierId, Resource } from '../protocol/http-channel.ts'
import type { Dial, DialFailure } from './channel-dial.ts'
import { decodeBase64, EventReader } from './event-reader.ts'
import { HttpCarrier } from './http-carrier.ts'
import { HttpRequests } from './http-requests.ts'

/** How long the first event may take once the stream was asked for. Whoever holds it back longer holds the others back too. */
const FIRST_EVENT_TIMEOUT_MS = 5_000

class SseCarrier extends HttpCarrier {
  readonly kind = 'sse'

  event(name: string, data: string): void {
    if (this.closed) return
    const body = name === '' ? decodeBase64(data) : undefined
    if (body === undefined || body.length === 0) return this.gone('an event that holds no messages')
    this.received(body)
    this.bodyEnded()
  }

  /** The stream is over, or of no use any more. */
  over(reason: string): void {
    this.gone(reason)
  }
}

export const dialSse: Dial = (options, done) => {
  const requests = new HttpRequests(options)
  let carrier: SseCarrier | undefined
  let timer: NodeJS.Timeout | undefined
  let failed = false
  const fail = (failure: DialFailure): void => {
    if (carrier !== undefined) return carrier.over(failure.detail)
    if (failed) return
    failed = true
    clearTimeout(timer)
    requests.end()
    done(failure)
  }
  const reader = new EventReader((name, data) => {
    if (carrier !== undefined) return carrier.event(name, data)
    if (failed || name !== 'channel' || !isCarrierId(data)) return fail({ reason: 'http', detail: `${requests.host}: the event stream is none of a gateway` })
    clearTimeout(timer)
    carrier = new SseCarrier(requests, data)
    done(carrier)
  })
  requests.ask('down', { method: 'GET', resource: Resource.events }, { type: EVENTS_TYPE, mayBeEmpty: false, stays: true }, {
    onLeave: () => {
      const reason = requests.way.kind === 'forward' ? 'proxy' : 'unreachable'
      timer = setTimeout(() => fail({ reason, detail: `${requests.host}: the event stream is held back on the way` }), FIRST_EVENT_TIMEOUT_MS)
    },
    onData: (chunk) => {
      const wrong = reader.push(chunk)
      if (wrong !== undefined) fail({ reason: 'http', detail: `${requests.host}: ${wrong}` })
    },
    onOver: (failure) => fail(failure ?? { reason: 'http', detail: 'the event stream ended' }),
  })
  return () => {
    clearTimeout(timer)
    requests.end()
  }
}

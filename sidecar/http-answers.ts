// How the requests of http channels are answered: fields that keep caches and buffers out, and refusals with a reason (SPEC §14).
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { EVENTS_TYPE, MESSAGES_TYPE } from '../protocol/http-channel.ts'

/** Nothing on the way may keep it, nor pack it: what packs, buffers. */
const UNTOUCHED = { 'cache-control': 'no-store, no-transform' } as const

export const NO_CONTENT: OutgoingHttpHeaders = UNTOUCHED
export const WHOLE_BODY: OutgoingHttpHeaders = { ...UNTOUCHED, 'content-type': MESSAGES_TYPE }
/** X-Accel-Buffering: an nginx on the way hands each event on at once. */
export const EVENT_STREAM: OutgoingHttpHeaders = { ...UNTOUCHED, 'content-type': EVENTS_TYPE, 'x-accel-buffering': 'no' }
export const TEXT: OutgoingHttpHeaders = { ...UNTOUCHED, 'content-type': 'text/plain; charset=utf-8' }

export interface Refusal {
  readonly status: number
  readonly reason: string
  readonly fields?: OutgoingHttpHeaders
}

/** Says why not. What of the request's body still comes is not looked at, and the connection ends. */
export function refuse(request: IncomingMessage, response: ServerResponse, { status, reason, fields }: Refusal): void {
  request.resume()
  const body = Buffer.from(`${reason}\n`)
  response.writeHead(status, { ...TEXT, ...fields, 'content-length': body.length, connection: 'close' }).end(body)
}

// How the requests of http channels are answered: fields that keep caches and buffers out, and refusals with a reason (SPEC §14).
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { BODY_MAX_BYTES, EVENTS_TYPE, MESSAGES_TYPE } from '../protocol/http-channel.ts'

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

/**
 * Says why not. What of the request's body still comes is not looked at. The connection ends, but for a body that is as short as it may be: nginx is on
 * its way to send it, and would log the end as an error.
 */
export function refuse(request: IncomingMessage, response: ServerResponse, { status, reason, fields }: Refusal): void {
  request.resume()
  const body = Buffer.from(`${reason}\n`)
  const ends = !(Number(request.headers['content-length']) <= BODY_MAX_BYTES)
  response.writeHead(status, { ...TEXT, ...fields, 'content-length': body.length, ...(ends ? { connection: 'close' } : {}) }).end(body)
}

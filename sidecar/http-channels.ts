// The http channels that are open at the gateway, by id, and the requests that open them and are theirs (SPEC §14).
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Environment } from '../protocol/environment.ts'
import { BODY_MAX_BYTES, CARRIER_ID_BYTES, CHANNEL_FIELD, type ChannelField, decodeField, NO_BODY_HASH, Resource } from '../protocol/http-channel.ts'
import { BUSY_RETRY_AFTER_S, CHANNEL_PATH } from './agents-door.ts'
import type { Arrival } from './arrival.ts'
import { type Refusal, refuse, TEXT } from './http-answers.ts'
import { type HttpCarrier, type HttpCarrierFacts, TOO_LARGE } from './http-carrier.ts'
import { LongPollCarrier } from './long-poll.ts'
import { SseCarrier } from './sse.ts'
import type { Strangers } from './strangers.ts'

/** Each is a session's or a stranger's; some 3 KB, and what it may queue. */
const HTTP_CHANNELS_MAX_COUNT = 16_384
/** Those that were closed last: a POST that crossed the close is no mistake of the agent's, and to refuse it would hide why we closed. */
const CLOSED_MAX_COUNT = 256

type Take = (request: IncomingMessage, response: ServerResponse, arrival: Arrival) => Refusal | undefined

export class HttpChannels {
  private readonly carriers = new Map<string, HttpCarrier>()
  private readonly closed = new Map<string, HttpCarrier>()
  private readonly strangers: Pick<Strangers, 'hasRoomFor' | 'admit'>
  private readonly environment: Pick<Environment, 'clock' | 'random'>
  private readonly resources: Readonly<Record<string, { readonly methods: readonly string[]; readonly take: Take }>> = {
    [Resource.events]: { methods: ['GET'], take: (_request, response, arrival) => this.openSse(response, arrival) },
    [Resource.open]: { methods: ['POST'], take: (request, response, arrival) => this.openLongPoll(request, response, arrival) },
    [Resource.messages]: { methods: ['GET', 'POST'], take: (request, response, arrival) => this.messages(request, response, arrival) },
  }

  constructor(strangers: Pick<Strangers, 'hasRoomFor' | 'admit'>, environment: Pick<Environment, 'clock' | 'random'>) {
    this.strangers = strangers
    this.environment = environment
  }

  /** A doorway's TakeRequest. */
  readonly take = (request: IncomingMessage, response: ServerResponse, arrival: Arrival): boolean => {
    const resource = this.resources[request.url!.slice(CHANNEL_PATH.length)]
    if (resource === undefined) return false
    // What is said to a connection that is gone is lost, and its close tells of it.
    response.on('error', ignore)
    const refusal = resource.methods.includes(request.method!)
      ? resource.take(request, response, arrival)
      : { status: 405, reason: 'not by this method', fields: { allow: resource.methods.join(', ') } }
    if (refusal !== undefined) refuse(request, response, refusal)
    return true
  }

  private openSse(response: ServerResponse, arrival: Arrival): Refusal | undefined {
    if (!this.hasRoomFor(arrival)) return BUSY
    this.admit(new SseCarrier(this.facts(arrival), response))
    return undefined
  }

  private openLongPoll(request: IncomingMessage, response: ServerResponse, arrival: Arrival): Refusal | undefined {
    if (!this.hasRoomFor(arrival)) return BUSY
    if (hasBody(request)) return { status: 413, reason: 'nothing is said yet where a channel is opened' }
    const carrier = new LongPollCarrier(this.facts(arrival))
    response.writeHead(200, { ...TEXT, 'content-length': carrier.id.length }).end(carrier.id)
    this.admit(carrier)
    return undefined
  }

  private hasRoomFor({ peer }: Arrival): boolean {
    return this.carriers.size < HTTP_CHANNELS_MAX_COUNT && this.strangers.hasRoomFor(peer)
  }

  private facts(arrival: Arrival): HttpCarrierFacts {
    const id = this.environment.random(CARRIER_ID_BYTES).toString('hex')
    return { id, arrival, clock: this.environment.clock, onGone: (crossed) => this.gone(id, crossed) }
  }

  private gone(id: string, crossed: boolean): void {
    const carrier = this.carriers.get(id)
    this.carriers.delete(id)
    if (carrier === undefined || !crossed) return
    const [oldest] = this.closed.size >= CLOSED_MAX_COUNT ? this.closed.keys() : []
    if (oldest !== undefined) this.closed.delete(oldest)
    this.closed.set(id, carrier)
  }

  private admit(carrier: HttpCarrier): void {
    this.carriers.set(carrier.id, carrier)
    carrier.stranger = this.strangers.admit(carrier)
  }

  private messages(request: IncomingMessage, response: ServerResponse, arrival: Arrival): Refusal | undefined {
    const field = decodeField(request.headers[CHANNEL_FIELD])
    if (field === undefined) return { status: 403, reason: 'the field Postern-Channel is missing or wrong' }
    const carrier = this.carriers.get(field.id) ?? this.closed.get(field.id)
    if (carrier === undefined) return { status: 403, reason: 'there is no such channel' }
    return request.method === 'POST' ? post(carrier, field, request, response) : poll(carrier, field, request, response, arrival)
  }
}

function post(carrier: HttpCarrier, field: ChannelField, request: IncomingMessage, response: ServerResponse): Refusal | undefined {
  if (Number(request.headers['content-length'] ?? 0) > BODY_MAX_BYTES) return TOO_LARGE
  const refusal = carrier.judge('POST', field)
  if (refusal === undefined) carrier.post(request, response, field)
  return refusal
}

function poll(carrier: HttpCarrier, field: ChannelField, request: IncomingMessage, response: ServerResponse, arrival: Arrival): Refusal | undefined {
  if (!(carrier instanceof LongPollCarrier)) return { status: 405, reason: 'the messages of this channel come by its event stream', fields: { allow: 'POST' } }
  if (hasBody(request) || !field.bodyHash.equals(NO_BODY_HASH)) return { status: 403, reason: 'a poll has no body' }
  const refusal = carrier.judge('GET', field)
  if (refusal === undefined) carrier.wait(request, response, arrival)
  return refusal
}

const hasBody = ({ headers }: IncomingMessage): boolean => headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'

const BUSY: Refusal = { status: 503, reason: 'gateway_busy', fields: { 'retry-after': String(BUSY_RETRY_AFTER_S) } }

function ignore(): void {}

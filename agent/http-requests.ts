// The requests of an http channel: a connection for what comes down and one for what goes up, by any way (SPEC §14).
import { Client, type Dispatcher } from 'undici'
import { CHANNEL_FIELD, MESSAGES_TYPE, POLL_WAIT_MS, type Resource } from '../protocol/http-channel.ts'
import { channelUrl, type DialFailure, type DialOptions, placeOf } from './channel-dial.ts'
import { dial, dialProxy } from './dialer.ts'
import { type AnswerEvents, type Expectation, HttpAnswer } from './http-answer.ts'
import { proxyAuthorization } from './proxy-http.ts'
import { DIRECT, type Way } from './way.ts'

/** Longest wait for an answer, and within one: a poll's own, and what a slow link takes there and back. */
const ANSWER_TIMEOUT_MS = POLL_WAIT_MS + 10_000
/** An idle connection is kept this long: there is a heartbeat every 10 s, and nginx closes after 75 s. */
const KEEP_ALIVE_MS = 60_000

export interface Ask {
  readonly method: 'GET' | 'POST'
  readonly resource: Resource
  /** The value of Postern-Channel. */
  readonly field?: string
  readonly body?: Buffer
}

export class HttpRequests {
  /** The gateway, for people. */
  readonly host: string
  readonly way: Way
  /** What stands before a resource in a request's target. */
  private readonly base: string
  private readonly fields: Readonly<Record<string, string>>
  private readonly down: Client
  private readonly up: Client
  private readonly dials = new Set<() => void>()
  private over = false

  constructor({ gateway, trust, way = DIRECT, userAgent }: DialOptions) {
    const url = channelUrl(gateway)
    this.host = url.host
    this.way = way
    // What TLS is to hide from a proxy is not shown to it.
    const proxy = way.kind === 'forward' && url.protocol === 'http:' ? way.proxy : undefined
    this.base = proxy === undefined ? url.pathname : url.href
    const who = proxy === undefined ? undefined : proxyAuthorization(proxy)
    this.fields = {
      host: url.host,
      'user-agent': userAgent,
      // What packs, buffers.
      'accept-encoding': 'identity',
      'cache-control': 'no-store',
      ...(who === undefined ? {} : { 'proxy-authorization': who }),
    }
    const begin = (done: Parameters<typeof dialProxy>[1]): (() => void) => (proxy === undefined ? dial(way, placeOf(url, trust), done) : dialProxy(proxy, done))
    const options: Client.Options = {
      connect: (_options, connected) => {
        const cancel = begin((error, socket) => {
          this.dials.delete(cancel)
          if (socket === undefined) connected(error!, null)
          else connected(null, socket)
        })
        this.dials.add(cancel)
      },
      pipelining: 1,
      allowH2: false,
      headersTimeout: ANSWER_TIMEOUT_MS,
      bodyTimeout: ANSWER_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    }
    this.down = new Client((proxy ?? url).origin, options)
    this.up = new Client((proxy ?? url).origin, options)
  }

  /** Asks for an answer that comes whole, empty where that may be. `type`: what it is to be, if it is to be anything. */
  whole(connection: 'down' | 'up', ask: Ask, type: string | undefined, mayBeEmpty: boolean, done: (outcome: Buffer | DialFailure) => void): void {
    const chunks: Buffer[] = []
    this.ask(connection, ask, { type, mayBeEmpty, stays: false }, {
      onLeave: nothing,
      onData: (chunk) => void chunks.push(chunk),
      onOver: (failure) => done(failure ?? (chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))),
    })
  }

  /** Asks for an answer that is of use part by part. */
  ask(connection: 'down' | 'up', { method, resource, field, body }: Ask, expectation: Expectation, events: AnswerEvents): void {
    const headers: Record<string, string> = { ...this.fields, accept: expectation.type ?? '*/*' }
    if (field !== undefined) headers[CHANNEL_FIELD] = field
    if (body !== undefined) headers['content-type'] = MESSAGES_TYPE
    const options: Dispatcher.DispatchOptions & { servername: string } = {
      method,
      path: this.base + resource,
      headers,
      body: body ?? null,
      // undici would look it up in Host and drop its connections when it changes; the dialer knows the name.
      servername: 'gateway',
      // Some proxies close connections that they never said they would (tinyproxy issue 563), and a request that meets that is lost: each has its own.
      reset: this.way.kind === 'forward',
      ...(expectation.stays ? { bodyTimeout: 0 } : {}),
    }
    this[connection].dispatch(options, new HttpAnswer(this, expectation, this.untilOver(events)))
  }

  private untilOver(events: AnswerEvents): AnswerEvents {
    return {
      onLeave: () => events.onLeave(),
      onData: (chunk) => {
        if (!this.over) events.onData(chunk)
      },
      onOver: (failure) => {
        if (!this.over) events.onOver(failure)
      },
    }
  }

  /** Ends what is under way; nothing is told any more. */
  end(): void {
    this.over = true
    for (const cancel of this.dials) cancel()
    for (const client of [this.down, this.up]) client.destroy().catch(nothing)
  }
}

const nothing = (): void => undefined

// What dialing a channel takes and what comes of it, whatever the channel: the gateway's place, a carrier, or why there is none.
import type { Carrier } from '../protocol/channel.ts'
import type { Trust } from './trust.ts'
import { type Place, ProxyError, type Way } from './way.ts'

export interface DialOptions {
  /** The gateway's base URL, as the join string has it; `tcp:` and `tls:` are a port of the gateway itself. */
  readonly gateway: string
  /** How the socket is had: directly, if it is not said. */
  readonly way?: Way
  readonly userAgent: string
  /** What the pipe channel goes over: a command for the shell, or `unix:/PATH`. */
  readonly pipe?: string
  /** Whom to take for the gateway, over TLS. */
  readonly trust?: Trust | undefined
}

/**
 * Why there is no channel. `unreachable`: nobody there, or a gateway that is away; `proxy`: the proxy on the way says no; `tls`: somebody else's
 * certificate; `http`: somebody there who is no gateway.
 */
export interface DialFailure {
  readonly reason: 'unreachable' | 'proxy' | 'tls' | 'http'
  readonly detail: string
  /** No connection is to be had at that place at all: no other kind finds anybody there either. */
  readonly nobody?: boolean
}

/** Dials. `done` is called once; the function returned gives up, and `done` is not called then. Redirects are not followed: the join string names the gateway. */
export type Dial = (options: DialOptions, done: (outcome: Carrier | DialFailure) => void) => () => void

/** Time for the upgrade once the socket is there. */
export const UPGRADE_TIMEOUT_MS = 10_000
/** Above this, what the socket has not taken yet makes the session wait: it can still choose what goes first. */
export const SOCKET_QUEUE_MAX_BYTES = 256 * 1024

/** Is the URL that of a port of the gateway itself, where messages may come as they are? */
export const isOwnPort = (gateway: string): boolean => /^(tcp|tls):/i.test(gateway)

/** Where channels begin under a gateway's URL. At its own port it speaks HTTP too. */
export function channelUrl(gateway: string): URL {
  const url = new URL(gateway.replace(/^tcp:/i, 'http:').replace(/^tls:/i, 'https:'))
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/_postern/channel`
  url.search = ''
  url.hash = ''
  return url
}

/** Where the socket of a channel leads. */
export function placeOf(url: URL, trust: Trust | undefined): Place {
  const tls = url.protocol === 'https:' || url.protocol === 'wss:'
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? (tls ? 443 : 80) : Number(url.port), tls, trust }
}

/** The gateway is away, says the nginx before it. */
const AWAY_STATUSES: ReadonlySet<number> = new Set([502, 503, 504])

const TLS_FAILURE = /^(CERT_|CRL_|ERR_TLS|ERR_SSL|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|INVALID_CA|HOSTNAME_MISMATCH|EPROTO$)/

/** Of a connection, and of a name. */
const NOBODY: ReadonlySet<string> = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN'])

/** For an error on the way to `host`. */
export function failureOf(error: NodeJS.ErrnoException, host: string): DialFailure {
  const reason = error instanceof ProxyError ? 'proxy' : TLS_FAILURE.test(error.code ?? '') ? 'tls' : 'unreachable'
  return { reason, detail: `${host}: ${error.message}`, ...(NOBODY.has(error.code ?? '') ? { nobody: true } : {}) }
}

/** For an answer that is no upgrade. */
export function httpFailure(status: number, location: string | undefined): DialFailure {
  if (AWAY_STATUSES.has(status)) return { reason: 'unreachable', detail: `the gateway is away (HTTP ${String(status)})` }
  if (status >= 300 && status < 400) return { reason: 'http', detail: `redirected to ${location ?? 'nowhere'}; redirects are not followed` }
  return { reason: 'http', detail: `no gateway answers there (HTTP ${String(status)})` }
}

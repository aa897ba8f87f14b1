// The channels that an agent may take, in the order in which it would rather have them: each is a kind, by a way.
import { channelUrl, type Dial, isOwnPort } from './channel-dial.ts'
import { dialHttp2 } from './http2.ts'
import { dialLongPoll } from './long-poll.ts'
import { dialPipe } from './pipe.ts'
import { SettingsError } from './settings.ts'
import { dialSse } from './sse.ts'
import { dialTcp } from './tcp.ts'
import type { Trust } from './trust.ts'
import { DIRECT, readWay, type Way, wayFromEnvironment, wayText } from './way.ts'
import { dialWebsocket } from './websocket.ts'

export interface Candidate {
  readonly kind: string
  readonly way: Way
  readonly gateway: string
  /** Kind pipe: what it goes over. */
  readonly pipe?: string
  /** Whom it takes for the gateway, over TLS. */
  readonly trust?: Trust | undefined
  readonly dial: Dial
}

/** Every kind there is. */
const DIALS: Readonly<Record<string, Dial>> = { websocket: dialWebsocket, http2: dialHttp2, tcp: dialTcp, sse: dialSse, 'long-poll': dialLongPoll, pipe: dialPipe }
/** By requests, which a proxy may also carry one by one. */
const OF_REQUESTS: ReadonlySet<string> = new Set(['sse', 'long-poll'])
const PIPE = 'pipe'

/** The best first. HTTP/2 without TLS is spoken by the gateway's own port, but by hardly any nginx: what is likelier goes before it. */
const ORDERS: Readonly<Record<string, readonly string[]>> = {
  'http:': ['websocket', 'tcp', 'http2', 'sse', 'long-poll'],
  'https:': ['websocket', 'http2', 'tcp', 'sse', 'long-poll'],
  'tcp:': ['tcp', 'websocket', 'http2', 'sse', 'long-poll'],
  'tls:': ['tcp', 'websocket', 'http2', 'sse', 'long-poll'],
}

/** What somebody wants, in their words; what is not said is open. */
export interface Wishes {
  readonly gateway: string
  readonly channel?: string | undefined
  readonly pipe?: string | undefined
  readonly proxy?: string | undefined
  readonly trust?: Trust | undefined
}

type Env = Readonly<Record<string, string | undefined>>

/** What an agent may take, best first. Whatever is wished for by name is the only one of its sort. Throws a {@link SettingsError}. */
export function listCandidates(wishes: Wishes, env: Env): Candidate[] {
  const { channel = 'auto', gateway, pipe } = wishes
  const kinds = Object.keys(DIALS)
  if (channel !== 'auto' && !kinds.includes(channel)) throw new SettingsError(`${JSON.stringify(channel)} is no channel; there are auto, ${kinds.join(', ')}`)
  if (channel === PIPE && pipe === undefined) throw new SettingsError('which command, or which socket? --pipe COMMAND or --pipe unix:/PATH')
  // Whoever names a command has no other way, unless they name another kind with it.
  if (pipe !== undefined && (channel === 'auto' || channel === PIPE)) {
    if (wishes.proxy !== undefined) throw new SettingsError('a pipe goes by no proxy: that is for its command to know')
    return [pipeCandidate(gateway, pipe)]
  }
  return allOf(gateway, wayTo(gateway, wishes.proxy, env), wishes.trust).filter(({ kind }) => channel === 'auto' || kind === channel)
}

/** Everything that can be tried at all: by the way out, directly beside a proxy, and over a pipe if one is named. Throws a {@link SettingsError}. */
export function listEverything({ gateway, pipe, proxy, trust }: Wishes, env: Env): Candidate[] {
  const way = wayTo(gateway, proxy, env)
  return [...(pipe === undefined ? [] : [pipeCandidate(gateway, pipe)]), ...allOf(gateway, way, trust), ...(way.kind === 'direct' ? [] : allOf(gateway, DIRECT, trust))]
}

/** Checks a gateway's base URL. Throws a {@link SettingsError}. */
export function checkGateway(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || ORDERS[url.protocol] === undefined || url.hostname === '') {
    throw new SettingsError('a gateway’s URL is https://HOST[/PREFIX] or http://…, or tls://HOST:PORT or tcp://… for its own port')
  }
  if (url.username !== '' || url.password !== '') throw new SettingsError('a gateway’s URL names nobody: the join string does that')
  if (isOwnPort(text) && (url.port === '' || !['', '/'].includes(url.pathname))) throw new SettingsError('a URL of tls:// or tcp:// has a port, and nothing after it')
  return text
}

/** For tables: `direct`, or how and where it goes. No password is in it. */
export function wayName(way: Way): string {
  if (way.kind === 'direct') return 'direct'
  const url = `${way.proxy.protocol}//${way.proxy.host}`
  return way.kind === 'socks5' ? url : `${way.kind} ${url}`
}

/** For files: the same for the same candidate at every start. */
export const keyOf = ({ kind, way }: Candidate): string => `${kind} ${wayName(way)}`

/** For people: `websocket through http://proxy:3128`. */
export const candidateText = ({ kind, way }: Candidate): string => (kind === PIPE ? kind : `${kind} ${wayText(way)}`)

const pipeCandidate = (gateway: string, pipe: string): Candidate => ({ kind: PIPE, way: DIRECT, gateway, pipe, dial: DIALS[PIPE]! })

const wayTo = (gateway: string, proxy: string | undefined, env: Env): Way => (proxy === undefined ? wayFromEnvironment(channelUrl(gateway).href, env) : readWay(proxy, 'proxy'))

function allOf(gateway: string, way: Way, trust: Trust | undefined): Candidate[] {
  const by = (kinds: readonly string[], one: Way): Candidate[] => kinds.map((kind) => ({ kind, way: one, gateway, trust, dial: DIALS[kind]! }))
  const kinds = ORDERS[new URL(gateway).protocol]!
  // A proxy that gives nobody a tunnel may still pass on requests, which it can read.
  const forwarded = way.kind === 'connect' && channelUrl(gateway).protocol === 'http:' ? by(kinds.filter((kind) => OF_REQUESTS.has(kind)), { ...way, kind: 'forward' }) : []
  return [...by(kinds, way), ...forwarded]
}

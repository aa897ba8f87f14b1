// The way out: straight to the gateway or through a proxy, as the command line or the environment has it.
import { SettingsError } from './settings.ts'
import type { Trust } from './trust.ts'

/**
 * How a socket to the gateway is had. `proxy` is the URL of an HTTP proxy that knows CONNECT, or of a SOCKS5 proxy. `forward`: there is none to
 * the gateway; an HTTP proxy is asked for each request, so only the http channels go this way, to a gateway without TLS.
 */
export type Way = { readonly kind: 'direct' } | { readonly kind: 'connect' | 'socks5' | 'forward'; readonly proxy: URL }

/** The proxy itself said no, or is not what it was said to be. */
export class ProxyError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ProxyError'
  }
}

/** Where a way is to lead. */
export interface Place {
  /** A name or an address, without brackets. */
  readonly host: string
  readonly port: number
  readonly tls: boolean
  /** What is to be spoken over TLS there, by preference (ALPN): http/1.1 if it is not said. */
  readonly alpn?: readonly string[]
  /** Whom to take for whoever is meant: whom the system trusts, if it is not said. */
  readonly trust?: Trust | undefined
}

export const DIRECT: Way = { kind: 'direct' }

const KINDS: Readonly<Record<string, 'connect' | 'socks5'>> = { 'http:': 'connect', 'https:': 'connect', 'socks5:': 'socks5', 'socks5h:': 'socks5', 'socks:': 'socks5' }

/** Reads what somebody gave as `--proxy`: `direct`, or a URL; without a scheme it is an HTTP proxy. Throws a {@link SettingsError}. */
export function readWay(text: string, where: string): Way {
  if (text === 'direct') return DIRECT
  let proxy: URL
  try {
    proxy = new URL(/^[a-z0-9]+:\/\//i.test(text) ? text : `http://${text}`)
  } catch {
    throw new SettingsError(`${where}: this is no proxy's URL`)
  }
  const kind = KINDS[proxy.protocol]
  if (kind === undefined) throw new SettingsError(`${where}: a proxy's URL begins with http://, https:// or socks5://`)
  if (proxy.hostname === '') throw new SettingsError(`${where}: the proxy's URL names no host`)
  return { kind, proxy }
}

/** Who a proxy wants to know: name and password of its URL, decoded. Undefined if it names nobody. */
export function credentialsOf(proxy: URL): { readonly name: string; readonly password: string } | undefined {
  if (proxy.username === '' && proxy.password === '') return undefined
  return { name: decodeURIComponent(proxy.username), password: decodeURIComponent(proxy.password) }
}

/** Where a proxy listens. A URL keeps no port that its scheme stands for: `http://proxy:80` is `http://proxy`. */
export function proxyPort(proxy: URL): number {
  if (proxy.port !== '') return Number(proxy.port)
  return proxy.protocol === 'http:' ? 80 : proxy.protocol === 'https:' ? 443 : 1080
}

/** For people: the proxy without its password. */
export function wayText(way: Way): string {
  if (way.kind === 'direct') return 'directly'
  return `${way.kind === 'forward' ? 'by plain requests ' : ''}through ${way.proxy.protocol}//${way.proxy.host}`
}

type Env = Readonly<Record<string, string | undefined>>

const either = (env: Env, name: string): string | undefined => {
  const value = env[name.toLowerCase()] ?? env[name]
  return value === '' ? undefined : value
}

/**
 * The way that the environment names for a gateway's URL: `https_proxy` for https, `http_proxy` for http (in lower case only: a CGI's
 * `HTTP_PROXY` is a visitor's field), else `all_proxy`; none where `no_proxy` names the host.
 */
export function wayFromEnvironment(gateway: string, env: Env): Way {
  const url = new URL(gateway)
  if (isExcepted(url, either(env, 'NO_PROXY') ?? '')) return DIRECT
  const own = url.protocol === 'https:' ? either(env, 'HTTPS_PROXY') : (env.http_proxy ?? (env.REQUEST_METHOD === undefined ? env.HTTP_PROXY : undefined))
  const text = own !== undefined && own !== '' ? own : either(env, 'ALL_PROXY')
  return text === undefined ? DIRECT : readWay(text, 'the proxy of the environment')
}

/** `no_proxy`: hosts, with a leading dot or without it their subdomains too, `host:port`, or `*`. */
function isExcepted(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase()
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port
  return list.split(/[\s,]+/).some((entry) => {
    if (entry === '') return false
    if (entry === '*') return true
    const [, name = '', onlyPort] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(entry.toLowerCase()) ?? []
    if (onlyPort !== undefined && onlyPort !== port) return false
    const bare = name.replace(/^\*?\./, '')
    return bare !== '' && (host === bare || host.endsWith(`.${bare}`))
  })
}

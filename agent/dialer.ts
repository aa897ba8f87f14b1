// Dialers: a socket to the gateway, straight or through a proxy, with TLS on top of it where the gateway's URL says so.
import net from 'node:net'
import tls from 'node:tls'
import { connectThroughHttp } from './proxy-http.ts'
import { connectThroughSocks } from './proxy-socks.ts'
import { LOOKUP_MAX_MS, reach } from './reach.ts'
import { pinFault } from './trust.ts'
import { type Place, ProxyError, proxyPort, type Way } from './way.ts'

/** Time for TCP, the proxy and TLS together, once the name is looked up. */
const DIAL_TIMEOUT_MS = 10_000
/** Longer than this no dial takes. */
export const DIAL_MAX_MS = LOOKUP_MAX_MS + DIAL_TIMEOUT_MS
const HTTP = ['http/1.1']

/** Calls `done` once with a socket that is connected (and secure, if so asked), or with what went wrong. The function returned gives up. */
export function dial(way: Way, place: Place, done: Done): () => void {
  if (way.kind !== 'forward') return attempt(way, place, done)
  const refusal = setImmediate(() => done(new ProxyError(`the proxy ${way.proxy.host} is asked for plain requests alone`)))
  return () => clearImmediate(refusal)
}

/** The same for a socket to the proxy itself, which is told with each request where it is to lead. */
export function dialProxy(proxy: URL, done: Done): () => void {
  return attempt({ kind: 'forward', proxy }, { host: proxy.hostname, port: 0, tls: false }, done)
}

type Done = (error: Error | undefined, socket?: net.Socket) => void

function attempt(way: Way, place: Place, done: Done): () => void {
  let over = false
  let giveUp = nothing
  const finish = (error: Error | undefined, socket?: net.Socket): void => {
    if (over) return void socket?.destroy()
    over = true
    clearTimeout(timer)
    if (error !== undefined) giveUp()
    done(error, socket)
  }
  let timer: NodeJS.Timeout | undefined
  const outOfTime = (): void => {
    const who = way.kind === 'direct' ? 'nobody answers' : `the proxy ${way.proxy.host} does not answer`
    finish(new (way.kind === 'direct' ? Error : ProxyError)(`${who}: waited ${String(DIAL_TIMEOUT_MS / 1_000)} s`))
  }
  const secure = (socket: net.Socket): void => {
    if (!place.tls) return finish(undefined, socket)
    const secured = upgradeToTls(socket, place, finish)
    giveUp = () => secured.destroy()
  }
  const track = (cancel: () => void): void => void (giveUp = cancel)
  const found = (): void => void (timer = setTimeout(outOfTime, DIAL_TIMEOUT_MS))
  connect(way, place, { track, found }, (error, socket) => (socket === undefined ? finish(error) : secure(socket)))
  return () => {
    over = true
    clearTimeout(timer)
    giveUp()
  }
}

interface Progress {
  /** Is given how to give up what is under way, whenever that changes. */
  track(cancel: () => void): void
  /** The addresses are known. */
  found(): void
}

function connect(way: Way, place: Place, { track, found }: Progress, done: Done): void {
  const hold = (socket: net.Socket): net.Socket => {
    track(() => socket.destroy())
    return socket
  }
  if (way.kind === 'direct') return track(reach(place.host, place.port, found, (error, socket) => done(error, socket === undefined ? undefined : hold(socket))))
  const host = way.proxy.hostname.replace(/^\[|\]$/g, '')
  const start = (socket: net.Socket): void => {
    if (way.kind === 'forward') done(undefined, socket)
    else (way.kind === 'socks5' ? connectThroughSocks : connectThroughHttp)(socket, place, way.proxy, done)
  }
  track(reach(host, proxyPort(way.proxy), found, (error, socket) => {
    if (socket === undefined) return done(new ProxyError(`the proxy ${way.proxy.host} can not be reached: ${error?.message ?? ''}`))
    hold(socket)
    if (way.proxy.protocol !== 'https:') return start(socket)
    hold(upgradeToTls(socket, { host }, (tlsError, safe) => (safe === undefined ? done(tlsError) : start(safe))))
  }))
}

function upgradeToTls(socket: net.Socket, { host, alpn = HTTP, trust }: Pick<Place, 'host' | 'alpn' | 'trust'>, done: (error: Error | undefined, socket?: net.Socket) => void): net.Socket {
  const own = trust === undefined ? {} : { ...(trust.ca === undefined ? {} : { ca: trust.ca }), ...(trust.demands?.client ?? trust.client) }
  const secured = tls.connect({ socket, minVersion: 'TLSv1.2', ALPNProtocols: [...alpn], ...own, ...(net.isIP(host) === 0 ? { servername: host } : { host }) })
  const failed = (error: Error): void => done(error)
  secured.once('error', failed)
  secured.once('close', () => done(new Error('the connection was closed amid the TLS handshake')))
  secured.once('secureConnect', () => {
    secured.off('error', failed)
    const fault = pinFault(trust, secured) ?? trust?.demands?.fault(secured)
    if (fault === undefined) return done(undefined, secured)
    secured.destroy()
    done(fault)
  })
  return secured
}

const nothing = (): void => undefined

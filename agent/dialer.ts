// Dialers: a socket to the gateway, straight or through a proxy, with TLS on top of it where the gateway's URL says so.
import net from 'node:net'
import tls from 'node:tls'
import { connectThroughHttp } from './proxy-http.ts'
import { connectThroughSocks } from './proxy-socks.ts'
import { pinFault } from './trust.ts'
import { type Place, ProxyError, proxyPort, type Way } from './way.ts'

/** Time for TCP, the proxy and TLS together. */
const DIAL_TIMEOUT_MS = 10_000
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
  let current: net.Socket | undefined
  const finish = (error: Error | undefined, socket?: net.Socket): void => {
    if (over) return void socket?.destroy()
    over = true
    clearTimeout(timer)
    if (error !== undefined) current?.destroy()
    done(error, socket)
  }
  const timer = setTimeout(() => {
    const who = way.kind === 'direct' ? 'nobody answers' : `the proxy ${way.proxy.host} does not answer`
    finish(new (way.kind === 'direct' ? Error : ProxyError)(`${who}: waited ${String(DIAL_TIMEOUT_MS / 1_000)} s`))
  }, DIAL_TIMEOUT_MS)
  const secure = (socket: net.Socket): void => {
    if (!place.tls) return finish(undefined, socket)
    current = upgradeToTls(socket, place, finish)
  }
  current = connect(way, place, (error, socket) => (socket === undefined ? finish(error) : secure(socket)))
  return () => {
    over = true
    clearTimeout(timer)
    current?.destroy()
  }
}

function connect(way: Way, place: Place, done: Done): net.Socket {
  if (way.kind === 'direct') return plain(place.host, place.port, done)
  const host = way.proxy.hostname.replace(/^\[|\]$/g, '')
  const port = proxyPort(way.proxy)
  const start = (socket: net.Socket): void => {
    if (way.kind === 'forward') done(undefined, socket)
    else (way.kind === 'socks5' ? connectThroughSocks : connectThroughHttp)(socket, place, way.proxy, done)
  }
  return plain(host, port, (error, socket) => {
    if (socket === undefined) return done(new ProxyError(`the proxy ${way.proxy.host} can not be reached: ${error?.message ?? ''}`))
    if (way.proxy.protocol !== 'https:') return start(socket)
    upgradeToTls(socket, { host }, (tlsError, safe) => (safe === undefined ? done(tlsError) : start(safe)))
  })
}

function plain(host: string, port: number, done: Done): net.Socket {
  // Both families raced with a head start (RFC 8305), as Node does by itself.
  const socket = net.connect({ host, port, autoSelectFamily: true, noDelay: true, keepAlive: true })
  const failed = (error: Error): void => done(error)
  socket.once('error', failed)
  socket.once('connect', () => {
    socket.off('error', failed)
    done(undefined, socket)
  })
  return socket
}

function upgradeToTls(socket: net.Socket, { host, alpn = HTTP, trust }: Pick<Place, 'host' | 'alpn' | 'trust'>, done: (error: Error | undefined, socket?: net.Socket) => void): net.Socket {
  const own = trust === undefined ? {} : { ...(trust.ca === undefined ? {} : { ca: trust.ca }), ...trust.client }
  const secured = tls.connect({ socket, minVersion: 'TLSv1.2', ALPNProtocols: [...alpn], ...own, ...(net.isIP(host) === 0 ? { servername: host } : { host }) })
  const failed = (error: Error): void => done(error)
  secured.once('error', failed)
  secured.once('close', () => done(new Error('the connection was closed amid the TLS handshake')))
  secured.once('secureConnect', () => {
    secured.off('error', failed)
    const fault = pinFault(trust, secured)
    if (fault === undefined) return done(undefined, secured)
    secured.destroy()
    done(fault)
  })
  return secured
}

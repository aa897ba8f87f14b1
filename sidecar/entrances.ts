// All the ways in for agents: the socket behind nginx, and the gateway's own ports where it is to have some; who comes in is counted together.
import { createServer, type Server } from 'node:net'
import type { Gatekeeper } from '../protocol/admit.ts'
import type { Environment } from '../protocol/environment.ts'
import { AgentsDoor } from './agents-door.ts'
import { Certificate } from './certificate.ts'
import { HttpChannels } from './http-channels.ts'
import type { Log } from './log.ts'
import { listenPlain, listenTls, placeOf, type PortPlace } from './own-ports.ts'
import { type Settings, SettingsError } from './settings.ts'
import { type InheritedName, listen, type SocketPlaces } from './sockets.ts'
import { Strangers } from './strangers.ts'

/** Kinds of channels that can come in. */
export const CHANNEL_KINDS = ['websocket', 'http2', 'tcp', 'sse', 'long-poll', 'pipe'] as const

export interface EntrancesOptions {
  readonly gatekeeper: Gatekeeper
  readonly environment: Environment
  readonly settings: Settings
  readonly places: SocketPlaces
  readonly log: Log
}

export interface Entrances {
  /** Takes nobody in any more; channels that are there stay. */
  close(): void
}

/** Resolves when agents can come. */
export async function openEntrances({ gatekeeper, environment, settings, places, log }: EntrancesOptions): Promise<Entrances> {
  const { agents_address, agents_tls_address, agents_tls_cert, agents_tls_client_ca, agents_tls_key } = settings
  const strangers = new Strangers(gatekeeper, environment)
  const takeRequest = new HttpChannels(strangers, environment).take
  const [atSocket, atPorts] = (['socket', 'port'] as const).map((entrance) => new AgentsDoor({ entrance, strangers, environment, takeRequest })) as [AgentsDoor, AgentsDoor]
  // Each end of a connection may end by itself: an answer is sent to whoever only listens any more.
  const servers: Server[] = [createServer({ allowHalfOpen: true }, (socket) => atSocket.take(socket))]
  await listen(servers[0]!, 'agents', places)
  const opened = (server: Server, tls: boolean): void => {
    servers.push(server)
    log.info('port_open', { address: placeOf(server), tls })
  }
  const plainPlace = placeFor('agents-port', places, agents_address)
  if (plainPlace !== undefined) opened(await listenPlain(plainPlace, atPorts), false)
  const tlsPlace = placeFor('agents-tls-port', places, agents_tls_address)
  if (tlsPlace !== undefined) {
    if (agents_tls_cert === undefined || agents_tls_key === undefined) throw new SettingsError('the inherited socket agents-tls-port needs agents_tls_cert and agents_tls_key')
    const certificate = new Certificate({ cert: agents_tls_cert, key: agents_tls_key, clientCa: agents_tls_client_ca }, (detail) => log.error('certificate_not_renewed', { detail }))
    opened(await listenTls(tlsPlace, certificate, atPorts, environment.times.handshakeMs), true)
  }
  return {
    close: () => {
      for (const server of servers) server.close()
      for (const door of [atSocket, atPorts]) door.close()
    },
  }
}

/** An inherited port goes before the setting: whoever opened it knows where. */
function placeFor(name: InheritedName, { fds }: SocketPlaces, address: string | undefined): PortPlace | undefined {
  const fd = fds.get(name)
  return fd === undefined ? address : { fd }
}

// Where an agent that comes in is: as nginx tells at our socket, as the connection itself tells at a port of ours.
import type { IncomingHttpHeaders } from 'node:http'

/** Whose connections a doorway takes: those of nginx (and of pipes) at the socket file, or those of everybody at a port. */
export type Entrance = 'socket' | 'port'

export interface Arrival {
  /** An address, fit for a log. */
  readonly peer: string
  /** $pid of nginx's worker, 0 if there is none. */
  readonly worker: number
}

/** An address is at most 45 characters; what is longer was written by somebody else. */
const PEER_MAX_CHARACTERS = 64

/** For a connection whose request fields are `headers`; at a port they are anybody's words. */
export function arrivalOf(entrance: Entrance, socket: { readonly remoteAddress?: string | undefined }, headers: IncomingHttpHeaders): Arrival {
  return entrance === 'port' ? { peer: addressOf(socket), worker: 0 } : { peer: forwardedFor(headers), worker: workerOf(headers) }
}

/** For one that says nothing of itself. */
export function silentArrival(entrance: Entrance, socket: { readonly remoteAddress?: string | undefined }): Arrival {
  return { peer: entrance === 'port' ? addressOf(socket) : 'pipe', worker: 0 }
}

/** A connection that is gone already has none. */
const addressOf = (socket: { readonly remoteAddress?: string | undefined }): string => socket.remoteAddress?.replace(/^::ffff:(?=\d+\.)/, '') ?? 'unknown'

/** The address that nginx saw: the last one, since any before it are the sender's own words. */
function forwardedFor(headers: IncomingHttpHeaders): string {
  const field = headers['x-forwarded-for']
  const all = Array.isArray(field) ? field.join() : (field ?? '')
  const last = all.slice(all.lastIndexOf(',') + 1).trim()
  return last.length <= PEER_MAX_CHARACTERS && /^[0-9A-Za-z.:%_-]+$/.test(last) ? last : 'unknown'
}

function workerOf(headers: IncomingHttpHeaders): number {
  const field = headers['postern-worker']
  return typeof field === 'string' && /^[0-9]{1,9}$/.test(field) ? Number(field) : 0
}

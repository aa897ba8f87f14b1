// What nginx says of an agent that comes in: its address, and the worker that holds the channel.
import type { IncomingMessage } from 'node:http'

/** An address is at most 45 characters; what is longer was written by somebody else. */
const PEER_MAX_CHARACTERS = 64

/** The address that nginx saw, fit for a log: the last one, since any before it are the sender's own words. */
export function peerOf(request: IncomingMessage): string {
  const field = request.headers['x-forwarded-for']
  const all = Array.isArray(field) ? field.join() : (field ?? '')
  const last = all.slice(all.lastIndexOf(',') + 1).trim()
  return last.length <= PEER_MAX_CHARACTERS && /^[0-9A-Za-z.:%_-]+$/.test(last) ? last : 'unknown'
}

/** $pid of the worker, 0 if it is not said. */
export function workerOf(request: IncomingMessage): number {
  const field = request.headers['postern-worker']
  return typeof field === 'string' && /^[0-9]{1,9}$/.test(field) ? Number(field) : 0
}

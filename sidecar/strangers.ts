// Strangers: carriers that are not yet a session's, bounded in their number and in what each may send before it is one (SPEC §2, §3).
import type { Duplex } from 'node:stream'
import { admit, type Gatekeeper } from '../protocol/admit.ts'
import type { Carrier } from '../protocol/channel.ts'
import type { Environment } from '../protocol/environment.ts'
import { HANDSHAKE_MESSAGE_MAX_BYTES } from '../protocol/limits.ts'
import { sourceOf } from './source.ts'
import { Tries } from './tries.ts'

/** Each holds a connection and some 10 KB. Who comes on top is told to come again. */
const STRANGERS_MAX_COUNT = 256
/** HELLO and PROOF and what a transport puts around them. Nobody sends more before WELCOME. */
const STRANGER_MAX_BYTES = 2 * HANDSHAKE_MESSAGE_MAX_BYTES + 64
/** Reads that a stranger's bytes may come in: one byte a read is fine for a HELLO and a PROOF of their usual sizes. */
const STRANGER_MAX_READS = 2_048

/** One of them, for whoever reads its bytes. */
export interface Stranger {
  /** So many bytes of it were read at once. False: it is no stranger any more, and need not be counted. */
  heard(bytes: number): boolean
  /** Its transport is gone. A refused one may take its time until then, and counts. */
  left(): void
}

export class Strangers {
  /** The one that came first is the first. */
  private readonly carriers = new Set<Carrier>()
  private readonly gatekeeper: Gatekeeper
  private readonly environment: Environment
  private readonly tries: Tries

  /** A channel goes to `gatekeeper` once its agent has proved itself. */
  constructor(gatekeeper: Gatekeeper, environment: Environment) {
    this.environment = environment
    this.tries = new Tries(environment.clock)
    this.gatekeeper = {
      serverSetup: gatekeeper.serverSetup,
      decoyRecord: gatekeeper.decoyRecord,
      recordOf: (agentId) => gatekeeper.recordOf(agentId),
      terms: (hello, record) => gatekeeper.terms(hello, record),
      sessionById: (id) => gatekeeper.sessionById(id),
      onSession: (session, hello, carrier) => {
        this.carriers.delete(carrier)
        gatekeeper.onSession(session, hello, carrier)
      },
      onChannel: (session, carrier) => {
        this.carriers.delete(carrier)
        gatekeeper.onChannel(session, carrier)
      },
      onRefused: (carrier, code, detail, agentId) => gatekeeper.onRefused(carrier, code, detail, agentId),
    }
  }

  /** Is there room for one more, from `peer`? Where there is none, who has most of it makes some, or a place from which no right secret ever came. */
  hasRoomFor(peer: string): boolean {
    if (this.carriers.size < STRANGERS_MAX_COUNT) return true
    const leaves = this.oldestOfMost(sourceOf(peer)) ?? (this.tries.knows(peer) ? [...this.carriers].find((carrier) => !this.tries.knows(carrier.peer)) : undefined)
    if (leaves === undefined) return false
    leaves.abort()
    this.carriers.delete(leaves)
    return true
  }

  /** Of the source that has most strangers the oldest, if it has so many more than `source` that this one is still the smaller with one more. */
  private oldestOfMost(source: string): Carrier | undefined {
    const bySource = Map.groupBy(this.carriers, ({ peer }) => sourceOf(peer))
    const own = bySource.get(source)?.length ?? 0
    let most: Carrier[] = []
    for (const carriers of bySource.values()) if (carriers.length > most.length) most = carriers
    return most.length > own + 1 ? most[0] : undefined
  }

  /** Lets a fresh carrier say who it is. */
  admit(carrier: Carrier): Stranger {
    this.carriers.add(carrier)
    let bytes = 0
    let reads = 0
    admit(carrier, this.gatekeeper, this.tries, this.environment)
    return {
      heard: (count) => {
        if (!this.carriers.has(carrier)) return false
        bytes += count
        reads++
        if (bytes > STRANGER_MAX_BYTES || reads > STRANGER_MAX_READS) carrier.abort()
        return true
      },
      left: () => void this.carriers.delete(carrier),
    }
  }

  /** The same for a carrier that has a socket, or a stream, of its own. */
  admitOver(socket: Duplex, carrier: Carrier): void {
    const stranger = this.admit(carrier)
    const count = (chunk: Buffer): void => {
      if (!stranger.heard(chunk.length)) socket.off('data', count)
    }
    // Before the carrier's own: what is too much is not read.
    socket.prependListener('data', count)
    socket.once('close', () => stranger.left())
  }
}

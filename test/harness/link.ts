// A TCP relay that misbehaves on purpose and, by its seed, the same way each time: delay, tiny pieces, cuts, stalls, black holes.
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { reset } from '../../dev/reset.ts'
import { Random } from '../protocol/simulation.ts'
import type { Ends } from './origin.ts'

export interface LinkOptions {
  /** Where it leads: a port on 127.0.0.1 or a unix socket. */
  target: number | string
  /** A path for a unix socket to listen on, instead of a port. */
  at?: string
  seed?: number
  /** One way, either way. */
  delayMs?: number
  /** How much it holds each way, instead of what a kernel's socket buffer would: a long way holds more. */
  queueMaxBytes?: number
  /** Each piece is written by itself, 1 to so many bytes long. */
  pieceMaxBytes?: number
  /** Each connection is reset after so many bytes, counted both ways: from, to. */
  cutBetweenBytes?: readonly [number, number]
}

export interface Link {
  readonly port: number
  /** Connections accepted since the start. */
  accepted(): number
  /** Connections open now. */
  connections(): number
  /** Resets every connection. */
  cut(): void
  /** Ends one direction of every connection, as a peer that says no more but still listens; `towards` names who hears the end. */
  halfClose(towards: 'near' | 'target'): void
  /** Takes and gives nothing more, so that both ends' buffers fill, until resume(). New connections are accepted, and stall. */
  stall(): void
  resume(): void
  /**
   * Swallows all bytes, ends and resets of the connections that are there and that come, until heal(); only those `towards` one side, if it is said.
   * What was swallowed stays lost: these connections are dead.
   */
  blackHole(towards?: 'near' | 'target'): void
  heal(): void
  /** Resets every connection whose first bytes match, as a firewall that looks inside, until it is told otherwise. Those that are there stay. */
  forbid(pattern: RegExp | undefined): void
  stop(): Promise<void>
}

/** What a kernel's socket buffer would hold. */
const QUEUE_MAX_BYTES = 256 * 1024

const NOTHING = [false, false] as const
const EVERYTHING = [true, true] as const

/** What both directions of one connection share. */
interface Pair {
  readonly ends: readonly [net.Socket, net.Socket]
  readonly random: Random
  /** Bytes that may still pass before the cut. */
  left: number
  /** Is what each end says swallowed? */
  swallowed: readonly [boolean, boolean]
}

/** One direction of one connection: a queue of chunks, each with the time it is due. An empty chunk stands for the end. */
class Direction {
  private readonly queue: { chunk: Buffer; due: number }[] = []
  private queuedBytes = 0
  private timer: NodeJS.Timeout | undefined
  private blocked = false
  private readonly pair: Pair
  private readonly from: 0 | 1
  private readonly source: net.Socket
  private readonly sink: net.Socket
  private readonly options: LinkOptions
  private readonly isStalled: () => boolean
  private readonly queueMaxBytes: number

  constructor(pair: Pair, from: 0 | 1, options: LinkOptions, isStalled: () => boolean) {
    this.pair = pair
    this.from = from
    this.source = pair.ends[from]
    this.sink = pair.ends[from === 0 ? 1 : 0]
    this.options = options
    this.isStalled = isStalled
    this.queueMaxBytes = options.queueMaxBytes ?? QUEUE_MAX_BYTES
    this.source.on('data', (chunk: Buffer) => this.take(chunk))
    this.source.on('end', () => this.take(Buffer.alloc(0)))
    this.source.on('close', (broken) => {
      if (this.swallowed) return
      if (broken) reset(this.sink)
    })
    this.source.on('error', () => undefined)
    this.sink.on('drain', () => {
      this.blocked = false
      this.pump()
    })
  }

  private get swallowed(): boolean {
    return this.pair.swallowed[this.from]
  }

  private take(chunk: Buffer): void {
    if (this.swallowed) return
    this.queue.push({ chunk, due: performance.now() + (this.options.delayMs ?? 0) })
    this.queuedBytes += chunk.length
    if (this.queuedBytes > this.queueMaxBytes) this.source.pause()
    this.pump()
  }

  /** Gives on what is due, piece by piece, a piece a turn if pieces are asked for. */
  pump(): void {
    if (this.timer !== undefined || this.blocked || this.isStalled() || this.swallowed) return
    for (;;) {
      const head = this.queue[0]
      if (head === undefined || this.sink.destroyed) return
      const waitMs = head.due - performance.now()
      if (waitMs > 0) return this.later(Math.ceil(waitMs))
      if (head.chunk.length === 0) {
        this.queue.shift()
        this.sink.end()
        return
      }
      if (!this.give(head)) return
      if (this.options.pieceMaxBytes !== undefined) return this.later(0)
    }
  }

  /** Writes the next piece of `head`; false if nothing more may be written now. */
  private give(head: { chunk: Buffer; due: number }): boolean {
    const most = Math.min(head.chunk.length, this.pair.left)
    const size = this.options.pieceMaxBytes === undefined ? most : Math.min(most, 1 + this.pair.random.below(this.options.pieceMaxBytes))
    const piece = head.chunk.subarray(0, size)
    head.chunk = head.chunk.subarray(size)
    if (head.chunk.length === 0) this.queue.shift()
    this.queuedBytes -= size
    this.pair.left -= size
    this.blocked = !this.sink.write(piece)
    if (this.pair.left === 0) {
      for (const end of this.pair.ends) reset(end)
      return false
    }
    if (this.queuedBytes <= this.queueMaxBytes && this.source.isPaused() && !this.isStalled()) this.source.resume()
    return !this.blocked
  }

  private later(ms: number): void {
    this.timer = setTimeout(() => {
      this.timer = undefined
      this.pump()
    }, ms)
  }
}

export async function startLink(t: Ends, options: LinkOptions): Promise<Link> {
  const random = new Random(options.seed ?? 1)
  const pairs = new Map<Pair, readonly [Direction, Direction]>()
  let accepted = 0
  let stalled = false
  let swallowing: Pair['swallowed'] = NOTHING
  let forbidden: RegExp | undefined
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    accepted++
    const far = typeof options.target === 'number'
      ? net.connect({ port: options.target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
      : net.connect({ path: options.target, allowHalfOpen: true })
    const [least, most] = options.cutBetweenBytes ?? [Infinity, Infinity]
    const left = least === Infinity ? Infinity : least + random.below(most - least + 1)
    const pair: Pair = { ends: [near, far], random, left, swallowed: swallowing }
    pairs.set(pair, [new Direction(pair, 0, options, () => stalled), new Direction(pair, 1, options, () => stalled)])
    if (forbidden !== undefined) {
      const pattern = forbidden
      near.prependOnceListener('data', (chunk: Buffer) => {
        if (!pattern.test(chunk.toString('latin1'))) return
        pair.swallowed = EVERYTHING
        for (const end of pair.ends) reset(end)
      })
    }
    for (const end of pair.ends) {
      if (stalled) end.pause()
      end.on('close', () => {
        if (near.destroyed && far.destroyed) pairs.delete(pair)
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(options.at === undefined ? { port: 0, host: '127.0.0.1' } : { path: options.at }, resolve))

  function cut(): void {
    for (const { ends } of pairs.keys()) for (const end of ends) reset(end)
  }
  let stopped: Promise<void> | undefined
  function stop(): Promise<void> {
    return (stopped ??= new Promise((resolve) => {
      server.close(() => resolve())
      cut()
    }))
  }
  t.teardown(stop)
  return {
    port: options.at === undefined ? (server.address() as AddressInfo).port : 0,
    accepted: () => accepted,
    connections: () => pairs.size,
    cut,
    halfClose: (towards) => {
      for (const [near, target] of [...pairs.keys()].map(({ ends }) => ends)) (towards === 'near' ? near : target).end()
    },
    stall: () => {
      stalled = true
      for (const { ends } of pairs.keys()) for (const end of ends) end.pause()
    },
    resume: () => {
      stalled = false
      for (const [{ ends }, directions] of pairs) {
        for (const end of ends) end.resume()
        for (const direction of directions) direction.pump()
      }
    },
    blackHole: (towards) => {
      swallowing = towards === undefined ? EVERYTHING : [towards === 'target', towards === 'near']
      for (const pair of pairs.keys()) pair.swallowed = [pair.swallowed[0] || swallowing[0], pair.swallowed[1] || swallowing[1]]
    },
    heal: () => {
      swallowing = NOTHING
    },
    forbid: (pattern) => {
      forbidden = pattern
    },
    stop,
  }
}

// Owners of streams for tests: one that sends a body and collects the answer, one that sends back what it gets.
import { createHash } from 'node:crypto'
import type { Carrier } from '../../protocol/channel.ts'
import type { ErrorCode } from '../../protocol/errors.ts'
import type { SessionEvents } from '../../protocol/session-events.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents, StreamKind } from '../../protocol/stream.ts'
import type { Pair } from './simulation.ts'

export const REQUEST: Fields = [':method', 'POST', ':scheme', 'http', ':authority', 'demo.localhost', ':path', '/']

export function opening(change: Partial<Opening> = {}): Opening {
  return { kind: StreamKind.exchange, uuid: '00112233445566778899aabbccddeeff', service: 'demo', fields: REQUEST, extension: NO_FIELDS, body: Buffer.alloc(0), ended: false, ...change }
}

export function sha256(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('hex')
}

/** Everything that a stream told its owner, in order. */
export class Recorder implements StreamEvents {
  readonly events: string[] = []
  readonly chunks: Uint8Array[] = []
  stream: Stream | undefined

  onHead(fields: Fields, _extension: Fields, body: Uint8Array, ended: boolean): void {
    this.events.push(`head ${String(fields[1])}${ended ? ' ended' : ''}`)
    if (body.length > 0) this.chunks.push(body)
  }
  onData(chunk: Uint8Array): void {
    this.events.push(`data ${String(chunk.length)}`)
    this.chunks.push(chunk)
  }
  onEnd(trailers: Fields): void {
    this.events.push(`end ${trailers.join('=')}`)
  }
  onStop(code: ErrorCode): void {
    this.events.push(`stop ${code.name}`)
  }
  onReset(code: ErrorCode, begun: boolean): void {
    this.events.push(`reset ${code.name} ${begun ? 'begun' : 'not begun'}`)
  }
  onDrain(): void {
    this.events.push('drain')
  }
  get body(): Buffer {
    return Buffer.concat(this.chunks)
  }
}

/** Sends `body` in pieces and takes the answer as it comes. */
export class Sender extends Recorder {
  private readonly piece: () => number
  private at = 0
  private readonly rest: Buffer
  private readonly hash = createHash('sha256')
  receivedBytes = 0
  receivedHash: string | undefined

  constructor(body: Buffer, piece: () => number) {
    super()
    this.rest = body
    this.piece = piece
  }

  start(stream: Stream): void {
    this.stream = stream
    this.go()
  }

  private go(): void {
    const stream = this.stream!
    while (this.at < this.rest.length) {
      const next = Buffer.from(this.rest.subarray(this.at, this.at + this.piece()))
      this.at += next.length
      if (!stream.give(next) && this.at < this.rest.length) return
    }
    if (this.at === this.rest.length) {
      this.at++
      stream.end(['x-sent', String(this.rest.length)])
    }
  }

  override onHead(fields: Fields, extension: Fields, body: Uint8Array, ended: boolean): void {
    super.onHead(fields, extension, new Uint8Array(0), ended)
    this.take(body)
  }
  override onData(chunk: Uint8Array): void {
    this.take(chunk)
  }
  override onEnd(trailers: Fields): void {
    super.onEnd(trailers)
    this.receivedHash = this.hash.digest('hex')
  }
  override onDrain(): void {
    this.go()
  }
  private take(chunk: Uint8Array): void {
    this.hash.update(chunk)
    this.receivedBytes += chunk.length
    this.stream!.consumed(chunk.length)
  }
}

/** Sends back what it gets, and gives credit only for what it could send on. */
export class Echo implements StreamEvents {
  private readonly stream: Stream
  private owed = 0

  constructor(opened: Opening, stream: Stream) {
    this.stream = stream
    stream.sendHead([':status', '200'], undefined, false)
    this.onData(opened.body)
    if (opened.ended) stream.end()
  }

  onHead(): void {
    throw new Error('an opener sends no head')
  }
  onData(chunk: Uint8Array): void {
    this.owed += chunk.length
    if (this.stream.give(chunk)) this.onDrain()
  }
  onEnd(trailers: Fields): void {
    this.stream.end(trailers)
  }
  onStop(): void {}
  onReset(): void {}
  onDrain(): void {
    this.stream.consumed(this.owed)
    this.owed = 0
  }
}

/** Events of a session, recorded; what it does with a new stream is `onOpen`'s. */
export class SessionRecorder implements SessionEvents {
  readonly events: string[] = []
  onOpen: SessionEvents['onOpen']

  constructor(onOpen: SessionEvents['onOpen']) {
    this.onOpen = onOpen
  }
  onPeerDrain(): void {
    this.events.push('peer drains')
  }
  onDetached(): void {
    this.events.push('detached')
  }
  onAttached(): void {
    this.events.push('attached')
  }
  onChannelLost(_carrier: Carrier, reason: string): void {
    this.events.push(`channel lost: ${reason}`)
  }
  onStalled(): void {
    this.events.push('stalled')
  }
  onMove(code: ErrorCode): void {
    this.events.push(`move ${code.name}`)
  }
  onEnd(code: ErrorCode, detail: string): void {
    this.events.push(`end ${code.name}: ${detail}`)
  }
}

export const OK = [':status', '200', 'content-type', 'text/plain']

/** A stream that the gateway opens, and what each end's owner is told of it. */
export function open(world: Pair, change: Partial<Opening> = {}): { own: Stream; asker: Recorder; far: Stream; answerer: Recorder; opened: Opening } {
  const asker = new Recorder()
  const answerer = new Recorder()
  let far: Stream | undefined
  let opened: Opening | undefined
  world.agent.events = new SessionRecorder((what, stream) => {
    far = stream
    opened = what
    return answerer
  })
  const own = world.gateway.open(opening(change), asker)!
  world.clock.run(() => far !== undefined)
  return { own, asker, far: far!, answerer, opened: opened! }
}

/** Lets everything happen that is under way. */
export const settle = (world: Pair): unknown => world.clock.run(() => false, 500)

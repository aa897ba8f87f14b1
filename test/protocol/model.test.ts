// §5-§11: two ends whose owners do whatever they may, in any order, over channels that are cut, full and moved: every byte that comes is the
// one that was sent, what was ended is whole, and nothing is held when all is over.
import t from 'tap'
import type { Carrier } from '../../protocol/channel.ts'
import { type ErrorCode, errors } from '../../protocol/errors.ts'
import { decodeChannelOpen, type Policy } from '../../protocol/messages.ts'
import type { Session } from '../../protocol/session.ts'
import { type Opening, type Stream, type StreamEvents, StreamKind } from '../../protocol/stream.ts'
import { opening, SessionRecorder } from './parties.ts'
import { pair, type Pair, Wire, type WireEnd } from './simulation.ts'

const STREAMS = 80
/** Owners stop being wilful after so long, and only finish what they began. */
const WILFUL_MS = 3_000
const SIMULATED_LIMIT_MS = 600_000
const CHUNK_MAX_BYTES = 40_000

/** What one direction of one stream carries at `offset`: its own at every place. */
const pattern = (seed: number, offset: number): number => (seed * 131 + offset * 7 + (offset >>> 8) * 13) & 0xff

function patterned(seed: number, from: number, length: number): Buffer {
  const out = Buffer.allocUnsafe(length)
  for (let i = 0; i < length; i++) out[i] = pattern(seed, from + i)
  return out
}

/** What both owners of a stream know of one another, which no real ones do. */
interface Shared {
  readonly seed: number
  opener: Actor | undefined
  answerer: Actor | undefined
}

/** One end of a stream and its owner's whims. */
class Actor implements StreamEvents {
  stream: Stream | undefined
  readonly seed: number
  sent = 0
  ended = false
  received = 0
  private unconsumed = 0
  gotEnd = false
  stopped = false
  wasStopped = false
  wasReset = false
  didReset = false
  private blocked = false
  private mayWrite: boolean
  private headCame: boolean
  private readonly model: Model
  private readonly shared: Shared

  constructor(model: Model, shared: Shared, opener: boolean) {
    this.model = model
    this.shared = shared
    this.seed = shared.seed * 2 + (opener ? 0 : 1)
    this.mayWrite = opener
    this.headCame = !opener
    if (opener) shared.opener = this
    else shared.answerer = this
  }

  get peer(): Actor | undefined {
    return this.shared.opener === this ? this.shared.answerer : this.shared.opener
  }

  get gone(): boolean {
    return this.wasReset || this.didReset
  }

  private get sendingOver(): boolean {
    return this.ended || this.wasStopped
  }

  get over(): boolean {
    return this.gone || (this.sendingOver && (this.gotEnd || this.stopped))
  }

  start(stream: Stream): void {
    this.stream = stream
    this.later()
  }

  private later(): void {
    const { random, clock } = this.model.world
    clock.later(random.below(4) === 0 ? random.below(80) : random.below(4), () => this.step())
  }

  private step(): void {
    if (this.over) return
    if (this.model.wilful) this.act(this.model.world.random.below(100))
    else this.finish()
    this.later()
  }

  private act(whim: number): void {
    if (whim < 1) this.reset()
    else if (whim < 3) this.stop()
    else if (whim < 7) this.end()
    else if (whim < 50) this.write(this.model.world.random.below(3) === 0 ? 1 + this.model.world.random.below(CHUNK_MAX_BYTES) : 1 + this.model.world.random.below(500))
    else if (whim < 85) this.consume(this.model.world.random.below(this.unconsumed + 1))
  }

  private finish(): void {
    this.consume(this.unconsumed)
    this.end()
  }

  private head(body: Buffer | undefined, end: boolean): void {
    this.mayWrite = true
    this.stream!.sendHead([':status', '200', 'x-wide', this.model.wide()], body, end)
  }

  private write(bytes: number): void {
    if (this.sendingOver || this.blocked) return
    const chunk = patterned(this.seed, this.sent, bytes)
    this.sent += bytes
    if (this.mayWrite) this.blocked = !this.stream!.write(chunk)
    else this.head(chunk, false)
  }

  private end(): void {
    if (this.sendingOver) return
    this.ended = true
    if (this.mayWrite) this.stream!.end(['x-sent', String(this.sent)])
    else this.head(undefined, true)
  }

  private stop(): void {
    if (this.gotEnd) return
    this.stopped = true
    this.stream!.stop(errors.cancelled)
  }

  private reset(): void {
    this.didReset = true
    this.stream!.reset(errors.cancelled, true)
  }

  private consume(bytes: number): void {
    this.unconsumed -= bytes
    this.stream!.consumed(bytes)
  }

  private take(what: string, chunk: Uint8Array): void {
    if (this.gone || this.stopped || this.gotEnd) this.model.problem(`${what} after the end`)
    const from = this.seed ^ 1
    for (let i = 0; i < chunk.length; i++) {
      if (chunk[i] === pattern(from, this.received + i)) continue
      return this.model.problem(`${what}: a wrong byte at ${String(this.received + i)}`)
    }
    this.received += chunk.length
    this.unconsumed += chunk.length
  }

  /** What rode in OPEN. */
  opened(body: Uint8Array, ended: boolean): void {
    this.take('open', body)
    this.gotEnd = ended
  }

  onHead(_fields: readonly string[], _extension: readonly string[], body: Uint8Array, ended: boolean): void {
    if (this.headCame) this.model.problem('a second head')
    this.headCame = true
    this.take('head', body)
    this.gotEnd = ended
  }

  onData(chunk: Uint8Array): void {
    if (!this.headCame) this.model.problem('data before the head')
    this.take('data', chunk)
  }

  onEnd(trailers: readonly string[]): void {
    this.take('end', Buffer.alloc(0))
    this.gotEnd = true
    // An OPEN that said it is all has no trailers.
    if (trailers.length > 0 && trailers[1] !== String(this.received)) this.model.problem(`an end after ${String(this.received)} bytes of ${String(trailers[1])}`)
  }

  onStop(): void {
    if (this.gone || this.wasStopped) this.model.problem('a stop after the end')
    this.wasStopped = true
  }

  onReset(): void {
    if (this.gone) this.model.problem('a reset after the end')
    this.wasReset = true
  }

  onDrain(): void {
    if (this.gone || this.wasStopped) this.model.problem('room after the end')
    this.blocked = false
  }
}

class Model {
  readonly world: Pair
  readonly problems: string[] = []
  readonly shared: Shared[] = []
  readonly waiting = new Map<string, Shared>()
  opened = 0
  refused = 0
  cuts = 0
  moves = 0
  private wires: Wire[]
  private readonly told: SessionRecorder[]

  constructor(seed: number, policy: Policy, lanes: number) {
    this.world = pair(seed, { policy, lanes, delayMs: (from) => 1 + from.below(20), bytesPerMs: 2_000 })
    const { agent, gateway, wire } = this.world
    this.wires = [wire]
    this.choke(wire)
    this.told = [agent, gateway].map((session) => (session.events = new SessionRecorder((what, stream) => this.came(what, stream))))
  }

  get wilful(): boolean {
    return this.world.clock.now() < WILFUL_MS
  }

  /** A value for a field: now and then one of those of which few fit in a record. */
  wide(): string {
    const { random } = this.world
    return 'w'.repeat(random.below(3) === 0 ? random.below(30_000) : random.below(300))
  }

  problem(what: string): void {
    this.problems.push(what)
  }

  private came(what: Opening, stream: Stream): StreamEvents | ErrorCode {
    const shared = this.waiting.get(what.uuid)!
    if (this.world.random.below(12) === 0) return errors.refused
    const actor = new Actor(this, shared, false)
    actor.opened(what.body, what.ended)
    actor.start(stream)
    return actor
  }

  private open(): void {
    if (this.opened >= STREAMS || !this.wilful) return
    const { random, clock, agent, gateway } = this.world
    // Alone, or many in one turn.
    clock.later(random.below(3) === 0 ? random.below(120) : 0, () => this.open())
    const shared: Shared = { seed: this.opened++, opener: undefined, answerer: undefined }
    const uuid = shared.seed.toString(16).padStart(32, '0')
    const opener = new Actor(this, shared, true)
    const body = patterned(opener.seed, 0, random.below(2) === 0 ? 0 : random.below(12_000))
    const ended = random.below(4) === 0
    const kind = [StreamKind.exchange, StreamKind.exchange, StreamKind.control, StreamKind.tcp][random.below(4)]!
    this.waiting.set(uuid, shared)
    const fields = [':method', 'POST', 'x-wide', this.wide()]
    const stream = (random.below(2) === 0 ? agent : gateway).open(opening({ kind, uuid, fields, body, ended }), opener)
    if (stream === undefined) return void this.refused++
    opener.sent = body.length
    opener.ended = ended
    this.shared.push(shared)
    opener.start(stream)
  }

  // Now and then a channel takes nothing for a while.
  private choke(wire: Wire): void {
    const { random, clock } = this.world
    for (const end of [wire.left, wire.right]) {
      const send = end.send.bind(end)
      let full = false
      end.send = (message) => {
        send(message)
        if (full || random.below(20) !== 0) return !full
        full = true
        clock.later(random.below(60), () => {
          full = false
          if (wire.isOpen) end.onDrain()
        })
        return false
      }
    }
  }

  private openChannel(lanes: number[] | undefined): void {
    const { random, clock, agent, gateway } = this.world
    const wire = new Wire(clock, () => 1 + random.below(20))
    this.choke(wire)
    wire.right.onMessage = (message) => {
      const { channelNumber, marks } = decodeChannelOpen(message)
      if (gateway.acceptChannel(wire.right, message, channelNumber, marks) !== undefined) wire.cut('refused')
    }
    this.wires.push(wire)
    agent.openChannel(wire.left, (refusal) => (refusal === undefined ? this.moves++ : undefined), lanes)
  }

  private disturb(lanes: number): void {
    const { random, clock, agent } = this.world
    if (agent.ended) return
    this.wires = this.wires.filter((one) => one.isOpen)
    if (this.wilful && random.below(2) === 0 && this.wires.length > 0) {
      this.cuts++
      this.wires[random.below(this.wires.length)]!.cut('by the seed')
    }
    if (this.wires.length < 4 && (this.wilful || !agent.attached)) this.openChannel(random.below(3) === 0 && this.wilful ? [random.below(lanes)] : undefined)
    const known: Carrier[] = agent.carriers
    if (this.wilful && random.below(3) === 0 && known.length > 0) agent.attach(known[random.below(known.length)] as WireEnd, [random.below(lanes)], (refusal) => (refusal === undefined ? this.moves++ : undefined))
    clock.later(5 + random.below(60), () => this.disturb(lanes))
  }

  run(lanes: number): void {
    const { clock, agent, gateway, random } = this.world
    this.open()
    this.disturb(lanes)
    if (random.below(2) === 0) clock.later(WILFUL_MS / 2 + random.below(WILFUL_MS / 2), () => (random.below(2) === 0 ? agent : gateway).drain())
    const idle = (session: Session): boolean => session.streamCount === 0 && session.budget.usedBytes === 0
    const done = (): boolean => !this.wilful && idle(agent) && idle(gateway)
    if (!clock.run(() => done() || agent.ended || gateway.ended, SIMULATED_LIMIT_MS)) {
      const [streams, bytes] = [[agent.streamCount, gateway.streamCount], [agent.budget.usedBytes, gateway.budget.usedBytes]]
      this.problem(`${streams.join(' and ')} streams are left, ${bytes.join(' and ')} bytes held`)
    }
    for (const { events } of this.told) this.problems.push(...events.filter((event) => event.startsWith('end')))
    for (const shared of this.shared) this.judge(shared)
  }

  private judge({ seed, opener, answerer }: Shared): void {
    const ends = [opener, answerer].filter((actor) => actor !== undefined)
    for (const actor of ends) {
      if (!actor.over) this.problem(`stream ${String(seed)} never ended for one of its owners`)
      const { peer } = actor
      if (peer !== undefined && actor.received > peer.sent) this.problem(`stream ${String(seed)}: more came than was sent`)
      if (peer !== undefined && actor.gotEnd && actor.received !== peer.sent) this.problem(`stream ${String(seed)}: ${String(actor.received)} of ${String(peer.sent)} bytes came whole`)
    }
    const calm = ends.length === 2 && ends.every((actor) => !actor.gone && !actor.stopped)
    if (calm && !ends.every((actor) => actor.gotEnd)) this.problem(`stream ${String(seed)} was not whole though nobody broke it`)
  }
}

for (const policy of ['always', 'never'] as const) {
  for (const lanes of [1, 3]) {
    t.test(`whatever owners and channels do, bytes are those that were sent and nothing is left over (${policy}, ${String(lanes)} lanes)`, (t) => {
      let cuts = 0
      let moves = 0
      let streams = 0
      for (let seed = 1; seed <= 12; seed++) {
        const model = new Model(seed * 6_367, policy, lanes)
        model.run(lanes)
        t.same(model.problems.slice(0, 5), [], `seed ${String(seed * 6_367)}`)
        cuts += model.cuts
        moves += model.moves
        streams += model.shared.length
      }
      t.ok(cuts > 100 && moves > 100 && streams > 300, `${String(cuts)} cuts, ${String(moves)} moves, ${String(streams)} streams`)
      t.end()
    })
  }
}

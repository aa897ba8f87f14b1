// A gateway at the far end of simulated wires, one for each kind of channel, which work, fail or swallow as a test says; and an agent before it.
import type { Candidate } from '../../agent/candidates.ts'
import { Agent, type AgentOptions } from '../../agent/agent.ts'
import type { DialFailure } from '../../agent/channel-dial.ts'
import type { AgentEvent } from '../../agent/events.ts'
import { parseTarget } from '../../agent/target.ts'
import { DIRECT } from '../../agent/way.ts'
import { admit, type Attempts, type Gatekeeper } from '../../protocol/admit.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { encodeControl } from '../../protocol/control.ts'
import { AGENT_BUDGET_BYTES, GATEWAY_BUDGET_BYTES } from '../../protocol/limits.ts'
import { createServerSetup, publicKey, ready, register } from '../../protocol/opaque.ts'
import type { Session } from '../../protocol/session.ts'
import { type StatusSaid, StatusReader } from '../../protocol/status.ts'
import { NO_FIELDS, type Opening, type Stream, type StreamEvents, StreamKind } from '../../protocol/stream.ts'
import { environment, Random, SETTINGS, SimulatedClock, TIMES, Wire, type WireEnd } from '../protocol/simulation.ts'

await ready
const SETUP = createServerSetup()
const SECRET = 'a secret'
const RECORD = register(SETUP, 'an-agent', SECRET)

/** `works`; `mute`: a channel over which nothing comes back; `fades`: nothing after the probe; `hangs`: no answer to the dial; or why it fails. */
export type Behaviour = 'works' | 'mute' | 'fades' | 'hangs' | DialFailure

export const REFUSED: DialFailure = { reason: 'unreachable', detail: 'nobody is there' }

interface Laid {
  readonly kind: string
  readonly wire: Wire
}

export class Paths {
  readonly clock = new SimulatedClock()
  readonly random = new Random(1)
  readonly behaviours = new Map<string, Behaviour>()
  /** How long a dial takes, and each message. */
  delayMs = 10
  lanes = 16
  /** Every dial: `kind at ms`. */
  readonly dials: string[] = []
  /** Dials and carriers that were given up: their kinds. */
  readonly given: string[] = []
  readonly sessions: Session[] = []
  readonly said: StatusSaid[] = []
  private wires: Laid[] = []

  constructor(...working: readonly string[]) {
    for (const kind of working) this.behaviours.set(kind, 'works')
  }

  get environment(): AgentOptions['environment'] {
    return environment(this.clock, this.random, AGENT_BUDGET_BYTES)
  }

  candidates(...kinds: readonly string[]): Candidate[] {
    return kinds.map((kind) => ({
      kind,
      way: DIRECT,
      gateway: 'http://gateway',
      dial: (_options, done) => {
        this.dials.push(`${kind} at ${String(this.clock.now())}`)
        const behaviour = this.behaviours.get(kind) ?? REFUSED
        const cancel = behaviour === 'hangs' ? undefined : this.clock.later(this.delayMs, () => done(typeof behaviour === 'object' ? behaviour : this.lay(kind, behaviour)))
        return () => {
          this.given.push(kind)
          cancel?.()
        }
      },
    }))
  }

  /** The wires of a kind that are open. */
  open(kind?: string): Wire[] {
    return this.wires.filter((laid) => laid.wire.isOpen && (kind === undefined || laid.kind === kind)).map(({ wire }) => wire)
  }

  /** What each lane of the newest session rides on, as the gateway sees it. */
  get rides(): string[] {
    return this.sessions.at(-1)!.rides.map((carrier) => this.wires.find(({ wire }) => wire.right === carrier)?.kind ?? '-')
  }

  run(done: () => boolean, limitMs?: number): boolean {
    return this.clock.run(done, limitMs)
  }

  /** Lets so much time pass. */
  pass(ms: number): void {
    this.clock.later(ms, () => undefined)
    this.clock.run(() => false, ms)
  }

  private lay(kind: string, behaviour: Behaviour): Carrier {
    const wire = new Wire(this.clock, () => this.delayMs)
    this.wires.push({ kind, wire })
    if (behaviour === 'works' || behaviour === 'fades') admit(wire.right, this.gatekeeper, this.attempts, environment(this.clock, this.random, GATEWAY_BUDGET_BYTES))
    else wire.right.deaf = true
    if (behaviour === 'fades') this.fade(wire.right)
    return wire.left
  }

  private fade(end: WireEnd): void {
    const { onMessage } = end
    end.onMessage = (message) => {
      onMessage(message)
      end.deaf = true
    }
  }

  private readonly attempts: Attempts = {
    begin: (_carrier, _id, challenge) => {
      this.clock.soon(challenge)
      return { right: () => undefined, over: () => undefined }
    },
  }

  private readonly gatekeeper: Gatekeeper = {
    serverSetup: SETUP,
    decoyRecord: RECORD,
    recordOf: (id) => (id === 'an-agent' ? RECORD : null),
    terms: () => {
      const terms = { services: [{ name: 'demo', hosts: ['demo.example'] }], heartbeat_ms: TIMES.heartbeatMs, dead_after_ms: TIMES.deadAfterMs, grace_ms: TIMES.graceMs, channels: [] }
      return { policy: 'always', lanes: this.lanes, settings: SETTINGS, terms }
    },
    sessionById: (id) => this.sessions.find((session) => session.id === id && !session.ended),
    onSession: (session) => {
      this.sessions.push(session)
      const nothing = (): void => undefined
      const onOpen = (opening: Opening, stream: Stream): StreamEvents => this.take(opening, stream)
      session.events = { onOpen, onPeerDrain: nothing, onDetached: nothing, onAttached: nothing, onChannelLost: nothing, onStalled: nothing, onMove: nothing, onEnd: nothing }
    },
    onChannel: () => undefined,
    onRefused: () => undefined,
  }

  private take(opening: Opening, stream: Stream): StreamEvents {
    const nothing = (): void => undefined
    const reader = new StatusReader()
    stream.sendHead(NO_FIELDS, undefined, false)
    if (opening.kind === StreamKind.control) stream.write(encodeControl({ taken: 1, opened: 0 }))
    const onData = (chunk: Uint8Array): void => {
      stream.consumed(chunk.length)
      if (opening.kind === StreamKind.status) this.said.push(...reader.push(chunk))
    }
    onData(opening.body)
    return { onHead: nothing, onData, onEnd: nothing, onStop: nothing, onReset: nothing, onDrain: nothing }
  }
}

/** An agent that may take the channels of `paths`, in this order. */
export class Traveller {
  readonly events: AgentEvent[] = []
  readonly agent: Agent
  private readonly paths: Paths

  constructor(paths: Paths, kinds: readonly string[], more: Partial<AgentOptions> = {}) {
    this.paths = paths
    const join = { url: 'http://gateway', id: 'an-agent', secret: SECRET, key: publicKey(SETUP) }
    const services = { every: { target: parseTarget('1', 'linux') } }
    const onEvent = (event: AgentEvent): void => void this.events.push(event)
    this.agent = new Agent({ join, services, environment: paths.environment, userAgent: 'test', candidates: paths.candidates(...kinds), onEvent, ...more })
  }

  /** Runs until it has said that, so many times in all; what it said. */
  saw(name: AgentEvent['event'], times = 1): AgentEvent {
    const all = (): AgentEvent[] => this.events.filter(({ event }) => event === name)
    if (!this.paths.run(() => all().length >= times, 120_000)) throw new Error(`no ${name}, ${String(times)} times:\n${this.events.map((event) => JSON.stringify(event)).join('\n')}`)
    return all()[times - 1]!
  }

  /** Starts it; it serves over as many channels as it is granted. */
  async serving(): Promise<void> {
    await this.agent.start()
    this.saw('serving')
  }
}

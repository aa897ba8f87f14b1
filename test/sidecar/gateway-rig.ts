// A gateway library with its door for agents in this process, and agents that come in over real websockets and really log in.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { AgentControl } from '../../agent/control.ts'
import { processEnvironment } from '../../agent/environment.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import type { Carrier } from '../../protocol/channel.ts'
import type { PushedSettings } from '../../protocol/control.ts'
import { Budget } from '../../protocol/credit.ts'
import type { Environment, Times } from '../../protocol/environment.ts'
import { type ErrorCode, errors } from '../../protocol/errors.ts'
import { GATEWAY_BUDGET_BYTES } from '../../protocol/limits.ts'
import { login } from '../../protocol/login.ts'
import { createServerSetup, publicKey, ready, register } from '../../protocol/opaque.ts'
import { type Refusal, Session } from '../../protocol/session.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents } from '../../protocol/stream.ts'
import { AgentsDoor } from '../../sidecar/agents-door.ts'
import type { Answer, Exchange } from '../../sidecar/carry.ts'
import type { AgentEntry, Directory, DirectoryListener, ServiceEntry } from '../../sidecar/directory.ts'
import { Gateway, GATEWAY_TIMES } from '../../sidecar/gateway.ts'
import { HttpChannels } from '../../sidecar/http-channels.ts'
import type { ServicePolicy } from '../../sidecar/policy.ts'
import { Registry } from '../../sidecar/registry.ts'
import { Strangers } from '../../sidecar/strangers.ts'
import { until } from '../harness/until.ts'

await ready
const SETUP = createServerSetup()
const KEY = publicKey(SETUP)
const SETTINGS = { firstCredit: 65_536, maxStreams: 4_096 }
export const TIMES: Times = { heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 }

/** What is configured, changed by hand. */
class Settings implements Directory {
  private readonly agentEntries = new Map<string, AgentEntry>()
  private readonly serviceEntries = new Map<string, ServiceEntry>()
  private readonly listeners: DirectoryListener[] = []

  agent(id: string): AgentEntry | undefined {
    return this.agentEntries.get(id)
  }
  service(name: string): ServiceEntry | undefined {
    return this.serviceEntries.get(name)
  }
  agents(): Iterable<AgentEntry> {
    return this.agentEntries.values()
  }
  services(): Iterable<ServiceEntry> {
    return this.serviceEntries.values()
  }
  listen(listener: DirectoryListener): void {
    this.listeners.push(listener)
  }

  setAgent(id: string, entry: AgentEntry | undefined): void {
    if (entry === undefined) this.agentEntries.delete(id)
    else this.agentEntries.set(id, entry)
    for (const listener of this.listeners) listener.agentChanged(id, entry)
  }
  setService(name: string, hosts: readonly string[] | undefined, policy: ServicePolicy = {}): void {
    const entry = hosts === undefined ? undefined : { name, hosts, prefixes: ['/'], conceal: false, trailers: false, policy }
    if (entry === undefined) this.serviceEntries.delete(name)
    else this.serviceEntries.set(name, entry)
    for (const listener of this.listeners) listener.servicesChanged([{ name, entry }])
  }
}

/** What an agent of a test does with an exchange. */
export type Origin = (opening: Opening, stream: Stream) => StreamEvents | ErrorCode

/** Events of a stream of which only some matter. */
export function events(some: Partial<StreamEvents> = {}): StreamEvents {
  return { onHead() {}, onData() {}, onEnd() {}, onStop() {}, onReset() {}, onDrain() {}, ...some }
}

/** Answers at once with a status and a body. */
export function answers(status: number, body: string): Origin {
  return (_opening, stream) => {
    stream.sendHead([':status', String(status)], Buffer.from(body), true)
    return events()
  }
}

/** A test that undoes at its end what it was told. */
interface Teardown {
  teardown(undo: () => void): void
}

export interface RigOptions {
  readonly times?: Partial<Times>
  readonly gatewayTimes?: Partial<{ headTimeoutMs: number; agentWaitMs: number; drainMs: number }>
  readonly budgetBytes?: number
  /** Is the gateway past its first grace, so that nobody waits for agents to come? */
  readonly settled?: boolean
}

interface LoginChange {
  readonly secret?: string
  readonly instance?: Buffer
  readonly carrier?: Carrier
  readonly began?: (session: Session, carrier: Carrier) => void
}

interface Ask {
  readonly method: string
  readonly body: Buffer
  /** Is `body` all of it? */
  readonly complete: boolean
  /** Is what comes of the answer taken at once? */
  readonly reads: boolean
  /** For an upgrade. */
  readonly protocol: string
  readonly worker: number
  readonly address: string
  /** Beside the pseudo-fields. */
  readonly fields: Fields
}

export class Rig {
  readonly directory = new Settings()
  /** Everything the registry told, in order. */
  readonly notes: string[] = []
  readonly presence: string[] = []
  readonly environment: Environment
  readonly registry: Registry
  readonly gateway: Gateway
  readonly door: AgentsDoor
  readonly server: Server
  readonly agents: Agent[] = []
  /** How far the gateway's clock is ahead of the real one. */
  leapMs = 0
  private readonly secrets = new Map<string, string>()
  private readonly sockets = new Set<Socket>()

  private constructor(options: RigOptions) {
    const times = { ...TIMES, ...options.times }
    const real = processEnvironment(times).clock
    const clock = { ...real, now: () => real.now() + this.leapMs }
    this.environment = { ...processEnvironment(times), clock, budget: new Budget(options.budgetBytes ?? GATEWAY_BUDGET_BYTES), times }
    this.registry = new Registry({
      directory: this.directory,
      environment: this.environment,
      serverSetup: SETUP,
      policy: 'always',
      lanes: 1,
      settings: SETTINGS,
      channels: ['websocket'],
      witness: {
        sessionBegan: (member) => this.notes.push(`began ${member.agentId}`),
        sessionDetached: (member) => this.notes.push(`detached ${member.agentId}`),
        sessionResumed: (member) => this.notes.push(`resumed ${member.agentId}`),
        sessionEnded: (member, code) => this.notes.push(`ended ${member.agentId} ${code.name}`),
        refused: (peer, code) => this.notes.push(`refused ${peer} ${code.name}`),
      },
    })
    this.registry.serving.listenPresence({ presenceChanged: (service, presence) => this.presence.push(`${service} ${presence}`) })
    this.gateway = new Gateway({ environment: this.environment, directory: this.directory, registry: this.registry, ...GATEWAY_TIMES, ...options.gatewayTimes })
    if (options.settled !== false) this.leapMs = times.graceMs
    // As nginx's connections are taken, though it listens on a port: agents dial a port.
    const strangers = new Strangers(this.registry, this.environment)
    this.door = new AgentsDoor({ entrance: 'socket', strangers, environment: this.environment, takeRequest: new HttpChannels(strangers, this.environment).take })
    this.server = createServer({ allowHalfOpen: true }, (socket) => {
      this.door.take(socket)
      this.sockets.add(socket)
      socket.once('close', () => this.sockets.delete(socket))
    })
  }

  static async start(t: Teardown, options: RigOptions = {}): Promise<Rig> {
    const rig = new Rig(options)
    rig.server.listen(0, '127.0.0.1')
    await once(rig.server, 'listening')
    t.teardown(() => rig.stop())
    return rig
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port
  }

  get url(): string {
    return `http://127.0.0.1:${String(this.port)}`
  }

  /** Lets an agent in and publishes the services it may serve. */
  allow(id: string, services: readonly string[]): void {
    const secret = randomBytes(32).toString('base64url')
    this.secrets.set(id, secret)
    for (const service of services) if (this.directory.service(service) === undefined) this.directory.setService(service, [`${service}.localhost`])
    this.directory.setAgent(id, { id, record: register(SETUP, id, secret), services })
  }

  dial(): Promise<Carrier> {
    return new Promise((resolve, reject) => {
      dialWebsocket({ gateway: this.url, userAgent: 'test' }, (outcome) => ('reason' in outcome ? reject(new Error(outcome.detail)) : resolve(outcome)))
    })
  }

  /** Logs in; what comes of it, session or refusal. `began` hears of a session in the turn in which it begins. */
  async login(id: string, change: LoginChange = {}): Promise<{ outcome: Session | Refusal; carrier: Carrier }> {
    const carrier = change.carrier ?? (await this.dial())
    const secret = change.secret ?? this.secrets.get(id) ?? 'nobody knows'
    const options = { agentId: id, secret, gatewayKey: KEY, instance: change.instance ?? randomBytes(16), policies: ['always', 'never'] as const, lanes: 1, settings: SETTINGS }
    return new Promise((resolve) => {
      login(carrier, options, processEnvironment({ ...TIMES, graceMs: 60_000 }), (outcome) => {
        if (outcome instanceof Session) change.began?.(outcome, carrier)
        resolve({ outcome, carrier })
      })
    })
  }

  /** An agent that is in and serves. */
  async agent(id: string, origin: Origin, serves: readonly string[] = this.directory.agent(id)!.services, instance = randomBytes(16)): Promise<Agent> {
    let agent: Agent | undefined
    const { outcome } = await this.login(id, { instance, began: (session, carrier) => (agent = new Agent(this, session, carrier, origin, serves)) })
    if (agent === undefined) throw new Error(outcome instanceof Session ? '' : `${outcome.code.name}: ${outcome.detail}`)
    this.agents.push(agent)
    await until(`${id} serves`, () => [...this.registry.members()].some(({ session, claims }) => session.id === agent!.session.id && claims.join() === serves.join()))
    return agent
  }

  ask(service: string, change: Partial<Ask> = {}): Asked {
    return new Asked(this.gateway, service, { method: 'GET', body: Buffer.alloc(0), complete: true, reads: true, protocol: '', worker: 0, address: '192.0.2.1', fields: [], ...change })
  }

  private stop(): void {
    this.registry.end(errors.gateway_leaving, 'the test is over')
    for (const agent of this.agents) agent.session.end(errors.cancelled, 'the test is over')
    this.server.close()
    this.door.close()
    for (const socket of this.sockets) socket.destroy()
  }
}

export class Agent {
  readonly session: Session
  readonly control: AgentControl
  /** How it ended: `name`. */
  ended = ''
  /** How often it was asked to open another channel. */
  moves = 0
  /** Service names of each change that was pushed. */
  readonly pushed: string[] = []
  /** Settings, as they were pushed. */
  readonly settings: PushedSettings[] = []
  private readonly rig: Rig
  private carrier: Carrier

  constructor(rig: Rig, session: Session, carrier: Carrier, origin: Origin, serves: readonly string[]) {
    this.rig = rig
    this.session = session
    this.carrier = carrier
    session.events = {
      onOpen: origin,
      onPeerDrain() {},
      onDetached() {},
      onAttached() {},
      onChannelLost() {},
      onStalled() {},
      onMove: (code) => (this.moves += code.number === errors.gateway_leaving.number ? 1 : 0),
      onEnd: (code) => (this.ended = code.name),
    }
    this.control = new AgentControl(session, randomBytes(16).toString('hex'), { serves, unhealthy: [], refused: [] }, () => {}, (said) => {
      if ('services' in said) this.pushed.push(said.services.map(({ name, hosts }) => `${name}=${hosts.join('+')}`).join())
      else this.settings.push(said.settings)
    })
  }

  /** Says what it serves, and which of it is not well. */
  serve(serves: readonly string[], unhealthy: readonly string[] = []): void {
    this.control.say({ serves, unhealthy, refused: [] })
  }

  /** Its channel dies, without a word. */
  async cut(): Promise<void> {
    const ours = [...this.rig.registry.members()].find((member) => member.session.id === this.session.id)!
    this.carrier.abort()
    await until('the gateway noticed', () => !ours.session.attached)
  }

  /** It is there and says nothing any more, as after a SIGSTOP or behind a black hole. */
  fallSilent(): void {
    this.carrier.send = () => true
  }

  async resume(carrier?: Carrier): Promise<void> {
    this.carrier = carrier ?? (await this.rig.dial())
    await new Promise<void>((resolve, reject) => {
      this.session.openChannel(this.carrier, (refusal) => (refusal === undefined ? resolve() : reject(new Error(refusal.code.name))))
    })
  }
}

/** A request as an ingress makes it, and everything that came of it. */
export class Asked implements Answer {
  readonly events: string[] = []
  readonly exchange: Exchange
  readonly uuid = randomBytes(16).toString('hex')
  body = Buffer.alloc(0)
  status = 0
  trailers: Fields = NO_FIELDS
  /** Of the final head. */
  fields: Fields = NO_FIELDS
  failure: ErrorCode | undefined
  detail = ''
  retryAfterS: number | undefined
  drains = 0
  private readonly reads: boolean

  constructor(gateway: Gateway, service: string, { method, body, complete, reads, protocol, worker, address, fields: more }: Ask) {
    this.reads = reads
    const fields = [':method', method, ':scheme', 'http', ':authority', `${service}.localhost`, ':path', '/', ...(protocol === '' ? [] : [':protocol', protocol]), ...more]
    // The answer may come before carry() returns: nothing here needs the exchange before then.
    this.exchange = gateway.carry({ uuid: this.uuid, service, fields, address, worker }, body, complete, this)
  }

  interim(fields: Fields): void {
    this.events.push(`interim ${String(fields[1])}`)
  }
  head(fields: Fields, body: Uint8Array, ended: boolean): void {
    this.status = Number(fields[1])
    this.fields = fields
    this.events.push(`head ${String(fields[1])}`)
    this.data(body)
    if (ended) this.events.push('end')
  }
  data(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.body = Buffer.concat([this.body, chunk])
    if (this.reads) this.exchange.consumed(chunk.length)
  }
  end(trailers: Fields): void {
    this.trailers = trailers
    this.events.push('end')
  }
  fail(code: ErrorCode, detail: string, retryAfterS?: number): void {
    this.failure = code
    this.retryAfterS = retryAfterS
    this.detail = detail
    this.events.push(`fail ${code.name}`)
  }
  stopped(): void {
    this.events.push('stopped')
  }
  drain(): void {
    this.drains++
  }

  get over(): boolean {
    return this.failure !== undefined || this.events.includes('end')
  }

  /** Resolves with the events when it ended or failed. */
  async done(): Promise<string> {
    await until('the answer is over', () => this.over, { logs: () => this.events.join(', ') })
    return this.events.join(', ')
  }
}

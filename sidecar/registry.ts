// The sessions of this gateway: who may begin one, what each serves as the directory allows, and when the directory ends one (SPEC §3, §5).
import type { Gatekeeper } from '../protocol/admit.ts'
import type { Carrier } from '../protocol/channel.ts'
import type { ServedService } from '../protocol/control.ts'
import type { Environment } from '../protocol/environment.ts'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Hello, Policy, Settings, Terms } from '../protocol/messages.ts'
import { decoy } from '../protocol/opaque.ts'
import type { Session } from '../protocol/session.ts'
import { type Opening, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'
import type { AgentEntry, Directory, DirectoryListener, ServiceChange, ServiceEntry } from './directory.ts'
import { Member } from './member.ts'
import { fitting, offer, pushedOf, streamsOf } from './offer.ts'
import { Serving } from './serving.ts'
import { Workers } from './workers.ts'

/** Sessions of one agent: it may run in many places, but not without end. */
const SESSIONS_PER_AGENT_MAX_COUNT = 64

/** As long as an agent's. */
const DECOY_SECRET_BYTES = 32

/** WELCOME is one message of 68,608 bytes at most; who may serve more than this hears of it on the control stream. */
const WELCOME_SERVICES_MAX_BYTES = 32_768
/** Half of what a line of the control stream holds: what the agent says of them is to fit too. Of those beyond it hears nothing, and the operator does. */
const SAID_SERVICES_MAX_BYTES = 524_288

/** Told of what happens to sessions: for the log and the history. */
export interface Witness {
  sessionBegan(member: Member): void
  /** Its last channel went; its grace runs. */
  sessionDetached(member: Member, reason: string): void
  sessionResumed(member: Member, over: Carrier): void
  sessionEnded(member: Member, code: ErrorCode, detail: string): void
  /** Somebody at `peer` did not become a session, nor a channel of one; `agentId` is as whom it came, if it said so. */
  refused(peer: string, code: ErrorCode, detail: string, agentId: string | undefined): void
}

export interface RegistryOptions {
  readonly directory: Directory
  readonly environment: Environment
  /** This gateway's OPAQUE setup (protocol/opaque.ts). */
  readonly serverSetup: string
  readonly policy: Policy
  /** Lanes that a session may have at most. */
  readonly lanes: number
  /** What this gateway takes of the agents' streams. */
  readonly settings: Settings
  /** Kinds of channels on offer. */
  readonly channels: readonly string[]
  readonly witness: Witness
}

export class Registry implements Gatekeeper, DirectoryListener {
  readonly serverSetup: string
  readonly decoyRecord: string
  readonly serving = new Serving()
  readonly workers: Workers
  private readonly options: RegistryOptions
  private readonly directory: Directory
  private readonly bySession = new Map<string, Member>()
  private readonly byAgent = new Map<string, Set<Member>>()

  constructor(options: RegistryOptions) {
    this.options = options
    this.serverSetup = options.serverSetup
    this.decoyRecord = decoy(options.serverSetup, options.environment.random(DECOY_SECRET_BYTES).toString('hex'))
    this.directory = options.directory
    this.workers = new Workers(options.environment.clock, () => this.sessions())
    this.directory.listen(this)
  }

  /** All sessions there are, resuming ones too. */
  members(): Iterable<Member> {
    return this.bySession.values()
  }

  private *sessions(): Iterable<Session> {
    for (const { session } of this.bySession.values()) yield session
  }

  /** Ends every session: the gateway leaves. */
  end(code: ErrorCode, detail: string): void {
    for (const member of [...this.bySession.values()]) member.session.end(code, detail)
  }

  // --- what admit() asks ---------------------------------------------------------------------------------------------

  recordOf(agentId: string): string | null {
    return this.directory.agent(agentId)?.record ?? null
  }

  terms(hello: Hello, record: string | null): { policy: Policy; lanes: number; settings: Settings; terms: Terms } | ErrorCode {
    const agent = this.directory.agent(hello.agentId)
    // The directory may have changed since the challenge.
    if (agent === undefined || agent.record !== record) return errors.revoked
    const instance = hello.instance.toString('hex')
    const others = this.byAgent.get(agent.id)
    if (others !== undefined && others.size >= SESSIONS_PER_AGENT_MAX_COUNT && ![...others].some((member) => member.instance === instance)) return errors.gateway_busy
    const services = this.allowed(agent)
    const fit = fitting(services, WELCOME_SERVICES_MAX_BYTES).length === services.length
    return offer(hello, this.options, agent.settings ?? {}, fit ? services : [])
  }

  sessionById(id: string): Session | undefined {
    return this.bySession.get(id)?.session
  }

  onSession(session: Session, hello: Hello, carrier: Carrier): void {
    const instance = hello.instance.toString('hex')
    // Asked in the same turn as terms(), which found it.
    const { id: agentId, record } = this.directory.agent(hello.agentId)!
    const facts = { session, agentId, instance, record, peer: carrier.peer, since: this.options.environment.clock.now(), clock: this.options.environment.clock }
    const member = new Member(facts, () => this.update(member))
    session.events = {
      onOpen: (opening, stream) => this.streamCame(member, opening, stream),
      onPeerDrain: () => this.update(member),
      onDetached: (reason) => {
        this.serving.touch(member)
        this.options.witness.sessionDetached(member, reason)
      },
      onAttached: () => this.serving.touch(member),
      onChannelLost: () => {},
      onStalled: () => {},
      onMove: () => {},
      onEnd: (code, detail) => this.ended(member, code, detail),
    }
    const siblings = this.byAgent.get(agentId) ?? new Set<Member>()
    this.byAgent.set(agentId, siblings)
    const older = [...siblings].find((sibling) => sibling.instance === instance)
    siblings.add(member)
    this.workers.channelCame(carrier)
    this.bySession.set(session.id, member)
    this.options.witness.sessionBegan(member)
    if (older === undefined) return
    // The same process serves what it served, until it says otherwise: no visitor notices.
    member.claims = older.claims
    member.unhealthy = older.unhealthy
    this.update(member)
    older.session.end(errors.replaced, errors.replaced.says)
  }

  onChannel(session: Session, carrier: Carrier): void {
    this.workers.channelCame(carrier)
    const member = this.bySession.get(session.id)
    if (member !== undefined) this.options.witness.sessionResumed(member, carrier)
  }

  onRefused(carrier: Carrier, code: ErrorCode, detail: string, agentId: string | undefined): void {
    this.options.witness.refused(carrier.peer, code, detail, agentId)
  }

  // --- what sessions tell --------------------------------------------------------------------------------------------

  private streamCame(member: Member, opening: Opening, stream: Stream): StreamEvents | ErrorCode {
    if (opening.kind === StreamKind.status) return member.openStatus(opening, stream) ?? errors.refused
    if (opening.kind !== StreamKind.control || !member.openControl(opening, stream)) return errors.refused
    const agent = this.directory.agent(member.agentId)
    if (agent !== undefined) this.tell(member, agent)
    return member
  }

  private ended(member: Member, code: ErrorCode, detail: string): void {
    this.serving.set(member, [])
    this.bySession.delete(member.session.id)
    const siblings = this.byAgent.get(member.agentId)!
    siblings.delete(member)
    if (siblings.size === 0) this.byAgent.delete(member.agentId)
    this.options.witness.sessionEnded(member, code, detail)
  }

  // --- what the directory tells --------------------------------------------------------------------------------------

  agentChanged(id: string, entry: AgentEntry | undefined): void {
    for (const member of [...(this.byAgent.get(id) ?? [])]) {
      if (entry === undefined || entry.record !== member.record) member.session.end(errors.revoked, errors.revoked.says)
      else {
        this.update(member)
        this.tell(member, entry)
      }
    }
  }

  servicesChanged(changes: readonly ServiceChange[]): void {
    const names = new Set(changes.map(({ name }) => name))
    for (const id of [...this.byAgent.keys()]) {
      const agent = this.directory.agent(id)
      if (agent?.services.some((name) => names.has(name)) === true) this.agentChanged(id, agent)
    }
  }

  // What a member serves: what it claims, as far as the directory allows, while it takes streams.
  private update(member: Member): void {
    if (member.session.ended) return
    const agent = this.directory.agent(member.agentId)
    const takes = agent !== undefined && !member.session.peerDraining
    const claims = new Set(takes ? member.claims : [])
    this.serving.set(member, claims.size === 0 ? [] : agent!.services.filter((name) => claims.has(name) && this.directory.service(name) !== undefined))
  }

  private tell(member: Member, agent: AgentEntry): void {
    const allowed = this.allowed(agent)
    const services = fitting(allowed, SAID_SERVICES_MAX_BYTES)
    member.untoldCount = allowed.length - services.length
    member.push({ services })
    const set = agent.settings ?? {}
    member.keep(pushedOf(this.options, set), streamsOf(this.options, set))
  }

  private allowed(agent: AgentEntry): ServedService[] {
    const services: ServedService[] = []
    for (const name of agent.services) {
      const service = this.directory.service(name)
      if (service !== undefined) services.push(offered(service))
    }
    return services
  }
}

/** A service as its agents hear of it. */
const offered = ({ name, hosts, origin, policy }: ServiceEntry): ServedService => ({ name, hosts, origin: origin ?? undefined, health: policy?.health })

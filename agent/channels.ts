// The channels of a session: one for each of its lanes, by the best way there is; what is lost, stalled, asked to leave or bettered is replaced while it serves.
import type { Carrier } from '../protocol/channel.ts'
import { errors } from '../protocol/errors.ts'
import type { Refusal, Session } from '../protocol/session.ts'
import type { SessionEvents } from '../protocol/session-events.ts'
import type { ChannelSaid } from '../protocol/status.ts'
import type { Backoff } from './backoff.ts'
import { type Candidate, candidateText, wayName } from './candidates.ts'
import { Climb, type ClimbTimes } from './climb.ts'
import type { Memory } from './memory.ts'
import { type Failure, race, type Racer, type Winner } from './race.ts'

export type ChannelEvent =
  | { readonly event: 'lost'; readonly reason: string }
  | { readonly event: 'resumed'; readonly session: string; readonly channel: string }
  | { readonly event: 'moved'; readonly from: string; readonly to: string; readonly why: string }
  | { readonly event: 'failed'; readonly reason: Failure['reason'] | 'login'; readonly detail: string; readonly retryMs: number }

export interface ChannelsOptions {
  readonly racer: Racer
  /** The best first. */
  readonly candidates: readonly Candidate[]
  readonly memory: Memory
  readonly backoff: Backoff
  readonly climb: ClimbTimes
  readonly tell: (event: ChannelEvent) => void
  /** The channels may be others than before. */
  readonly onChange: () => void
}

/** A channel, for people. */
export interface ChannelState extends ChannelSaid {
  readonly age_ms: number
  /** To the gateway, and from it, without what the transport puts around them. */
  readonly sent_bytes: number
  readonly received_bytes: number
}

/**
 * `opening`: asked for, with these lanes. `overdue`: the same, and its answer takes too long to count on it. `carrying`: theirs. `leaving`: its lanes go to
 * another as soon as there is one, then it is closed.
 */
interface Held {
  readonly candidate: Candidate
  readonly carrier: Carrier
  readonly since: number
  state: 'opening' | 'overdue' | 'carrying' | 'leaving'
  lanes: number[]
}

/** So many of a session's channels are begun at once: sixteen at a time would look like an attack to some proxies. */
const RACES_MAX_COUNT = 4

/** A channel that was just proven, and does not answer within this, broke in between: visitors wait no longer than 5 s for it to be given up. */
const OVERDUE_MS = 2_000

export class Channels {
  readonly events: Pick<SessionEvents, 'onDetached' | 'onAttached' | 'onChannelLost' | 'onStalled' | 'onMove'>
  /** No channel carries the session, and this was told. */
  detached = false
  private readonly session: Session
  private readonly options: ChannelsOptions
  private readonly held = new Map<Carrier, Held>()
  private readonly races = new Set<{ cancel: () => void }>()
  /** What carried the session last: it is told when another does. */
  private inUse: Candidate
  /** Why a channel is sought. Empty: the session has fewer than it may have. */
  private why = ''
  private readonly climb: Climb
  private cancelWait: (() => void) | undefined
  private settling = false
  /** Lanes on their way to other channels that there are. */
  private readonly moving = new Set<number>()
  private over = false

  constructor(session: Session, first: Winner, options: ChannelsOptions) {
    this.session = session
    this.options = options
    this.inUse = first.candidate
    this.climb = new Climb({ times: options.climb, racer: options.racer, better: () => this.better(), found: (winner) => this.climbed(winner) })
    this.events = {
      onDetached: (reason) => this.lostAll(reason),
      onAttached: () => undefined,
      onChannelLost: (carrier, reason) => this.lost(carrier, reason),
      onStalled: (carrier) => this.stalled(carrier),
      onMove: (_code, carrier) => this.leave(carrier, 'the gateway asked for another connection'),
    }
    this.held.set(first.carrier, { ...first, since: this.now, state: 'carrying', lanes: [] })
    this.worked(first.candidate)
    this.changed()
  }

  get states(): ChannelState[] {
    return this.session.channelFacts.flatMap(({ carrier, roundTripMs, lanes, volume: { sentBytes, receivedBytes } }) => {
      const held = this.held.get(carrier)
      if (held === undefined) return []
      const { candidate, since } = held
      return [{ kind: candidate.kind, way: wayName(candidate.way), round_trip_ms: roundTripMs ?? null, age_ms: this.now - since, sent_bytes: sentBytes, received_bytes: receivedBytes, lanes }]
    })
  }

  /** The session is over: nothing is sought for it any more. */
  close(): void {
    this.over = true
    this.cancelWait?.()
    this.climb.stop()
    for (const { cancel } of this.races) cancel()
  }

  private get now(): number {
    return this.options.racer.environment.clock.now()
  }

  private all(...states: Held['state'][]): Held[] {
    return [...this.held.values()].filter(({ state }) => states.includes(state))
  }

  // --- what there is against what there is to be ----------------------------------------------------------------------

  /** Looks at the end of the turn, when all that happened in it is known. */
  private changed(): void {
    if (this.settling) return
    this.settling = true
    this.options.racer.environment.clock.soon(() => {
      this.settling = false
      if (!this.over) this.settle()
    })
  }

  private settle(): void {
    this.closeIdle()
    const missing = this.session.rides.length - this.all('opening', 'carrying').length - this.races.size
    if (missing > 0 && this.cancelWait === undefined) for (let i = 0; i < missing && this.races.size < RACES_MAX_COUNT; i++) this.seek()
    else if (missing <= 0) this.giveHomes(true)
    this.climb.watch(this.all('carrying').some((held) => this.rank(held) > 0))
    this.options.onChange()
  }

  private closeIdle(): void {
    // One that was overdue and came after all may be one too many.
    let surplus = this.all('carrying').length - this.session.rides.length
    for (const carrier of this.session.idleCarriers) {
      const held = this.held.get(carrier)
      if (held?.state !== 'leaving' && (held?.state !== 'carrying' || surplus-- <= 0)) continue
      this.held.delete(carrier)
      carrier.close()
    }
  }

  /**
   * Lanes that ride on nothing, and those `inDoubt`, get a place on a channel that there is: asked for on a channel that broke, they may ride there in the
   * eyes of the gateway. With `all`, those too that are on a channel which is to go, or share one while another has none.
   */
  private giveHomes(all: boolean, inDoubt: readonly number[] = []): void {
    // One that just broke is none of the session's any more, even if that is still to be told.
    const alive = new Set(this.session.carriers)
    const homes = new Map(this.all('carrying').filter(({ carrier }) => alive.has(carrier)).map((held): [Held, number[]] => [held, []]))
    if (homes.size === 0) return
    const asked = new Set([...this.moving, ...this.all('opening', 'overdue').flatMap(({ lanes }) => lanes)])
    const strays: number[] = []
    for (const [lane, ride] of this.session.rides.entries()) {
      const home = ride === undefined ? undefined : this.held.get(ride)
      const there = home === undefined ? undefined : homes.get(home)
      if (there !== undefined && !inDoubt.includes(lane)) there.push(lane)
      else if (!asked.has(lane) && (all || ride === undefined || inDoubt.includes(lane))) strays.push(lane)
    }
    const byLanes = (): [Held, number[]][] => [...homes].toSorted(([, a], [, b]) => a.length - b.length)
    const moves = new Map<Held, number[]>()
    for (;;) {
      const [emptiest, fullest] = [byLanes().at(0)!, byLanes().at(-1)!]
      const lane = strays.pop() ?? (all && asked.size === 0 && fullest[1].length - emptiest[1].length >= 2 ? fullest[1].pop() : undefined)
      if (lane === undefined) break
      emptiest[1].push(lane)
      moves.set(emptiest[0], [...(moves.get(emptiest[0]) ?? []), lane])
    }
    for (const [{ carrier }, lanes] of moves) this.attach(carrier, lanes)
  }

  private attach(carrier: Carrier, lanes: readonly number[]): void {
    for (const lane of lanes) this.moving.add(lane)
    this.session.attach(carrier, lanes, (refusal) => {
      for (const lane of lanes) this.moving.delete(lane)
      if (refusal !== undefined) this.giveHomes(false, lanes)
      this.changed()
    })
  }

  private seek(): void {
    const one = { cancel: nothing }
    this.races.add(one)
    one.cancel = race(this.options.memory.order(this.options.candidates), this.options.racer, (outcome) => {
      this.races.delete(one)
      if ('reason' in outcome) this.failed(outcome.reason, outcome.detail)
      else this.take(outcome, [])
    })
  }

  /** Opens a channel of the session over it. Those `bettered` leave once it carries. */
  private take({ candidate, carrier }: Winner, bettered: readonly Held[]): void {
    const lanes = this.lanesForOneMore(bettered)
    if (lanes.length === 0) {
      carrier.close()
      return this.changed()
    }
    const held: Held = { candidate, carrier, since: this.now, state: 'opening', lanes }
    this.held.set(carrier, held)
    const cancel = this.options.racer.environment.clock.later(OVERDUE_MS, () => {
      held.state = 'overdue'
      // Its answer may be what was lost: then the gateway has its lanes there, and hears them nowhere else.
      this.giveHomes(false, held.lanes.splice(0))
      this.changed()
    })
    const done = (refusal: Refusal | undefined): void => {
      cancel()
      if (refusal === undefined) this.opened(held, bettered)
      else this.refused(held, refusal)
    }
    this.session.openChannel(carrier, done, lanes)
  }

  /** All lanes that have no place to stay, and its share of the others'. */
  private lanesForOneMore(bettered: readonly Held[]): number[] {
    const openings = this.all('opening')
    const homes = this.session.rides.map((ride, lane) => openings.find(({ lanes }) => lanes.includes(lane)) ?? (ride === undefined ? undefined : this.held.get(ride)))
    const stays = (home: Held | undefined): home is Held => home !== undefined && home.state !== 'leaving' && !bettered.includes(home)
    const mine = [...homes.keys()].filter((lane) => !stays(homes[lane]))
    const theirs = [...Map.groupBy([...homes.keys()].filter((lane) => stays(homes[lane])), (lane) => homes[lane]!)]
    for (;;) {
      const fullest = theirs.toSorted(([, a], [, b]) => b.length - a.length)[0]
      if (fullest === undefined || fullest[1].length - mine.length < 2) return mine
      const lane = fullest[1].pop()!
      fullest[0].lanes = fullest[0].lanes.filter((one) => one !== lane)
      mine.push(lane)
    }
  }

  private opened(held: Held, bettered: readonly Held[]): void {
    held.state = 'carrying'
    for (const one of bettered) one.state = 'leaving'
    this.worked(held.candidate)
    const { tell } = this.options
    if (this.detached) tell({ event: 'resumed', session: this.session.id, channel: held.candidate.kind })
    if (held.candidate !== this.inUse || (!this.detached && this.why !== '')) {
      tell({ event: 'moved', from: candidateText(this.inUse), to: candidateText(held.candidate), why: this.why === '' ? 'one more channel' : this.why })
    }
    this.detached = false
    this.inUse = held.candidate
    this.why = ''
    this.changed()
  }

  private refused(held: Held, { code, detail }: Refusal): void {
    this.held.delete(held.carrier)
    if (this.over || this.session.ended) return
    // The gateway does not know the session any more: nothing of it can be saved.
    if (code === errors.unknown_session) return this.session.end(errors.agent_lost, detail)
    this.giveHomes(false, held.lanes)
    // A later one overtook it: that is nobody's fault, and it is opened again at once.
    if (code === errors.stale_attach) return this.changed()
    this.options.memory.broke(held.candidate, 0, false)
    this.failed('login', detail)
  }

  private failed(reason: Failure['reason'] | 'login', detail: string): void {
    if (this.cancelWait !== undefined) return
    const retryMs = this.options.backoff.nextMs()
    if (this.detached) this.options.tell({ event: 'failed', reason, detail, retryMs })
    this.wait(retryMs)
  }

  private wait(ms: number): void {
    this.cancelWait?.()
    this.cancelWait = this.options.racer.environment.clock.later(ms, () => {
      this.cancelWait = undefined
      this.settle()
    })
  }

  private worked(candidate: Candidate): void {
    this.options.memory.worked(candidate, candidate === this.options.candidates[0])
  }

  // --- what the session tells -----------------------------------------------------------------------------------------

  private lost(carrier: Carrier, reason: string): void {
    const held = this.held.get(carrier)
    if (held === undefined) return
    this.held.delete(carrier)
    this.giveHomes(false)
    const livedMs = this.now - held.since
    if (held.state !== 'leaving') this.options.memory.broke(held.candidate, livedMs, false)
    else if (this.session.attached) return this.changed()
    this.options.backoff.lost(livedMs)
    this.why = reason
    this.wait(this.options.backoff.nextMs())
    this.changed()
  }

  private lostAll(reason: string): void {
    this.detached = true
    this.options.tell({ event: 'lost', reason })
  }

  private stalled(carrier: Carrier): void {
    const held = this.held.get(carrier)
    if (held === undefined || held.state === 'leaving') return
    this.options.memory.broke(held.candidate, this.now - held.since, true)
    this.leave(carrier, 'nothing comes over it any more')
  }

  private leave(carrier: Carrier, why: string): void {
    const held = this.held.get(carrier)
    if (held === undefined) return
    held.state = 'leaving'
    this.why = why
    this.cancelWait?.()
    this.cancelWait = undefined
    this.changed()
  }

  // --- climbing -------------------------------------------------------------------------------------------------------

  private rank({ candidate }: { readonly candidate: Candidate }): number {
    return this.options.candidates.indexOf(candidate)
  }

  private better(): Candidate[] {
    const worst = Math.max(0, ...this.all('carrying').map((held) => this.rank(held)))
    return this.options.candidates.slice(0, worst).filter((candidate) => !this.options.memory.shuns(candidate))
  }

  private climbed(winner: Winner): void {
    this.why = `${winner.candidate.kind} works again`
    this.take(winner, this.all('carrying').filter((held) => this.rank(held) > this.rank(winner)))
  }
}

const nothing = (): void => undefined

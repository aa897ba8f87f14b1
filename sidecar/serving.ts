// Who serves what: an index from services to the sessions that serve them, which of them gets the next exchange, and who is told of changes.
import type { Member } from './member.ts'
import type { Presence, PresenceListener } from './presence.ts'

/** Told when an exchange that waits for an agent of a service may have its chance, or has lost it. */
export interface ServingListener {
  servingChanged(service: string): void
}

/** By agent id; who is not named weighs 1. */
export type Weights = Readonly<Record<string, number>>

export class Serving {
  private readonly members = new Map<string, Member[]>()
  /** What was told last of each service that is not away. */
  private readonly told = new Map<string, Presence>()
  private readonly presences: PresenceListener[] = []
  private readonly listeners: ServingListener[] = []
  /** Where the search begins: among members equally busy each gets its share. */
  private turn = 0

  /** Hears of each change of a service's presence from now on. */
  listenPresence(listener: PresenceListener): void {
    this.presences.push(listener)
  }

  listen(listener: ServingListener): void {
    this.listeners.push(listener)
  }

  /** One that is resuming counts as serving. */
  presence(service: string): Presence {
    return this.told.get(service) ?? 'away'
  }

  /** The member with least in flight for its weight; one that is resuming, among `tried`, or whose origin is not well is none. */
  pick(service: string, tried: readonly Member[] | undefined, weights?: Weights): Member | undefined {
    const members = this.members.get(service)
    if (members === undefined) return undefined
    this.turn = (this.turn + 1) % 0x4000_0000
    const first = weights === undefined ? this.turn : begin(members, this.turn, weights)
    let best: Member | undefined
    let bestLoad = 0
    for (let i = 0; i < members.length; i++) {
      const member = members[(first + i) % members.length]!
      if (!isFree(member, service, tried)) continue
      const load = weights === undefined ? member.load : member.load / weightOf(member, weights)
      if (best !== undefined && load >= bestLoad) continue
      best = member
      bestLoad = load
    }
    return best
  }

  /** The first of those that pick() chooses from for which `is` holds. */
  find(service: string, tried: readonly Member[] | undefined, is: (member: Member) => boolean): Member | undefined {
    return this.members.get(service)?.find((member) => isFree(member, service, tried) && is(member))
  }

  /** May one that is resuming come back and take what others could not? */
  resuming(service: string, tried: readonly Member[] | undefined): boolean {
    const members = this.members.get(service)
    if (members === undefined) return false
    return members.some((member) => !member.session.attached && !member.session.ended && !member.unhealthy.has(service) && tried?.includes(member) !== true)
  }

  /** Sets what `member` serves; presence follows, by its word on the health of its origins too. */
  set(member: Member, services: readonly string[]): void {
    const before = new Set(member.serving)
    const now = new Set(services)
    member.serving = services
    for (const service of now) if (!before.has(service)) this.add(member, service)
    for (const service of before) if (!now.has(service)) this.remove(member, service)
    for (const service of new Set([...now, ...before])) this.announce(service)
  }

  /** Something about `member` changed that exchanges wait for. */
  touch(member: Member): void {
    for (const service of member.serving) this.tell(service)
  }

  private add(member: Member, service: string): void {
    const members = this.members.get(service)
    if (members !== undefined) members.push(member)
    else this.members.set(service, [member])
  }

  private remove(member: Member, service: string): void {
    const members = this.members.get(service)!
    members.splice(members.indexOf(member), 1)
    if (members.length === 0) this.members.delete(service)
  }

  private announce(service: string): void {
    const presence = this.presenceNow(service)
    if (presence !== this.presence(service)) {
      if (presence === 'away') this.told.delete(service)
      else this.told.set(service, presence)
      for (const listener of this.presences) listener.presenceChanged(service, presence)
    }
    this.tell(service)
  }

  private presenceNow(service: string): Presence {
    const members = this.members.get(service)
    if (members === undefined) return 'away'
    return members.some(({ unhealthy }) => !unhealthy.has(service)) ? 'up' : 'unhealthy'
  }

  private tell(service: string): void {
    for (const listener of this.listeners) listener.servingChanged(service)
  }
}

function isFree(member: Member, service: string, tried: readonly Member[] | undefined): boolean {
  return member.session.attached && !member.unhealthy.has(service) && tried?.includes(member) !== true
}

const weightOf = (member: Member, weights: Weights): number => (Object.hasOwn(weights, member.agentId) ? weights[member.agentId]! : 1)

/** Whose turn it is: each has as many of them as it weighs. */
function begin(members: readonly Member[], turn: number, weights: Weights): number {
  let left = turn % members.reduce((sum, member) => sum + weightOf(member, weights), 0)
  for (let at = 0; at < members.length; at++) {
    left -= weightOf(members[at]!, weights)
    if (left < 0) return at
  }
  return 0
}

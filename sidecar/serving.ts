// Who serves what: an index from services to the sessions that serve them, which of them gets the next exchange, and who is told of changes.
import type { PresenceListener } from './directory.ts'
import type { Member } from './member.ts'

/** Told when an exchange that waits for an agent of a service may have its chance, or has lost it. */
export interface ServingListener {
  servingChanged(service: string): void
}

export class Serving {
  private readonly members = new Map<string, Member[]>()
  private readonly presence: PresenceListener[] = []
  private readonly listeners: ServingListener[] = []
  /** Where the search begins: among members equally busy each gets its share. */
  private turn = 0

  /** Hears of each first and last member of a service from now on. */
  listenPresence(listener: PresenceListener): void {
    this.presence.push(listener)
  }

  listen(listener: ServingListener): void {
    this.listeners.push(listener)
  }

  /** Does a session serve it, be it one that is resuming? */
  present(service: string): boolean {
    return this.members.has(service)
  }

  /** The member with least in flight; one that is resuming or among `tried` is none. */
  pick(service: string, tried: readonly Member[] | undefined): Member | undefined {
    const members = this.members.get(service)
    if (members === undefined) return undefined
    let best: Member | undefined
    this.turn = (this.turn + 1) % 0x4000_0000
    for (let i = 0; i < members.length; i++) {
      const member = members[(this.turn + i) % members.length]!
      if (!member.session.attached || tried?.includes(member) === true) continue
      if (best === undefined || member.session.streamCount < best.session.streamCount) best = member
    }
    return best
  }

  /** May one that is resuming come back and take what others could not? */
  resuming(service: string, tried: readonly Member[] | undefined): boolean {
    const members = this.members.get(service)
    if (members === undefined) return false
    return members.some((member) => !member.session.attached && !member.session.ended && tried?.includes(member) !== true)
  }

  /** Sets what `member` serves; presence follows. */
  set(member: Member, services: readonly string[]): void {
    const before = member.serving
    member.serving = services
    for (const service of services) if (!before.includes(service)) this.add(member, service)
    for (const service of before) if (!services.includes(service)) this.remove(member, service)
  }

  /** Something about `member` changed that exchanges wait for. */
  touch(member: Member): void {
    for (const service of member.serving) this.tell(service)
  }

  private add(member: Member, service: string): void {
    const members = this.members.get(service)
    if (members !== undefined) members.push(member)
    else {
      this.members.set(service, [member])
      for (const listener of this.presence) listener.presenceChanged(service, true)
    }
    this.tell(service)
  }

  private remove(member: Member, service: string): void {
    const members = this.members.get(service)!
    members.splice(members.indexOf(member), 1)
    if (members.length === 0) {
      this.members.delete(service)
      for (const listener of this.presence) listener.presenceChanged(service, false)
    }
    this.tell(service)
  }

  private tell(service: string): void {
    for (const listener of this.listeners) listener.servingChanged(service)
  }
}

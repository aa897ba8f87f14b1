// Replaces a session while it serves, because what is agreed on at a login is to be another: one more login beside it. The old one goes when the new one serves.
import { INSTANCE_ID_BYTES } from '../protocol/messages.ts'
import type { Refusal, Session } from '../protocol/session.ts'
import type { Candidate } from './candidates.ts'
import { enter, type Entrant } from './enter.ts'
import { race, type Racer, type Winner } from './race.ts'

/** All agents of a gateway may have to renew at once: a login costs it 2 ms, so they take turns within this time; and an operator does not wait a second. */
const SPREAD_MS = 500
/** What did not succeed is tried again after so long, and half as much or less on top, for others may have failed with it: the old session serves. */
const RETRY_MS = 30_000

export interface RenewalOptions {
  readonly racer: Racer
  /** What is to be agreed on, at the moment of the login. */
  wish(): { readonly entrant: Omit<Entrant, 'instance'>; readonly candidates: readonly Candidate[] }
  readonly onSession: (session: Session, winner: Winner, instance: Buffer) => void
}

export class Renewal {
  private readonly options: RenewalOptions
  private cancel: (() => void) | undefined

  constructor(options: RenewalOptions) {
    this.options = options
  }

  /** Renews, if it does not already. */
  begin(): void {
    if (this.cancel === undefined) this.later(this.chance * SPREAD_MS)
  }

  stop(): void {
    this.cancel?.()
    this.cancel = undefined
  }

  private get chance(): number {
    return this.options.racer.environment.random(4).readUInt32BE() / 2 ** 32
  }

  private again(): void {
    this.later(RETRY_MS * (1 + this.chance / 2))
  }

  private later(ms: number): void {
    this.cancel = this.options.racer.environment.clock.later(ms, () => this.seek())
  }

  private seek(): void {
    const { racer, wish } = this.options
    const { entrant, candidates } = wish()
    this.cancel = race(candidates, racer, (outcome) => {
      if ('reason' in outcome) this.again()
      else this.enter(outcome, entrant)
    })
  }

  private enter(winner: Winner, entrant: Omit<Entrant, 'instance'>): void {
    const { environment } = this.options.racer
    // The same instance would end the session that still serves.
    const instance = environment.random(INSTANCE_ID_BYTES)
    let stopped = false
    this.cancel = () => {
      stopped = true
      winner.carrier.abort()
    }
    enter(winner.carrier, { ...entrant, instance }, environment, (outcome: Session | Refusal) => {
      if (stopped) return
      if ('code' in outcome) return this.again()
      this.cancel = undefined
      this.options.onSession(outcome, winner, instance)
    })
  }
}

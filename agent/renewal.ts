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
/** Whoever tries out settings is followed at once, so often within so long: a gateway that sets others without end has its agents log in no more often. */
const RENEWALS_MAX_COUNT = 10
const RENEWALS_WITHIN_MS = 60_000

export interface RenewalOptions {
  readonly racer: Racer
  /** What is to be agreed on, at the moment of the login. */
  wish(): { readonly entrant: Omit<Entrant, 'instance'>; readonly candidates: readonly Candidate[] }
  readonly onSession: (session: Session, winner: Winner, instance: Buffer) => void
}

export class Renewal {
  private readonly options: RenewalOptions
  private cancel: (() => void) | undefined
  /** When the last ones were begun, the oldest first. */
  private readonly begun: number[] = []

  constructor(options: RenewalOptions) {
    this.options = options
  }

  /** Renews, if it does not already. */
  begin(): void {
    if (this.cancel === undefined) this.later(Math.max(this.chance * SPREAD_MS, this.restMs))
  }

  stop(): void {
    this.cancel?.()
    this.cancel = undefined
  }

  private get chance(): number {
    return this.options.racer.environment.random(4).readUInt32BE() / 2 ** 32
  }

  /** How long it takes until one more may be begun. */
  private get restMs(): number {
    const { begun } = this
    return begun.length < RENEWALS_MAX_COUNT ? 0 : begun[0]! + RENEWALS_WITHIN_MS - this.options.racer.environment.clock.now()
  }

  private again(): void {
    this.later(RETRY_MS * (1 + this.chance / 2))
  }

  private later(ms: number): void {
    this.cancel = this.options.racer.environment.clock.later(ms, () => this.seek())
  }

  private seek(): void {
    const { racer, wish } = this.options
    this.begun.push(racer.environment.clock.now())
    if (this.begun.length > RENEWALS_MAX_COUNT) this.begun.shift()
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

// Tries to log in, slowed where they went wrong before: by where they come from and by the agent they name, the owner's own never for long (SPEC §3).
import type { Attempt, Attempts } from '../protocol/admit.ts'
import type { Carrier } from '../protocol/channel.ts'
import type { Clock } from '../protocol/clock.ts'
import { Allowance, type Spending } from './allowance.ts'
import { Penalties } from './penalties.ts'
import { Recent } from './recent.ts'
import { sourceOf } from './source.ts'

/** From where wrong tries came, more are delayed up to this, and refused beyond: half of the time for a handshake. */
const SOURCE_WAIT_MAX_MS = 5_000
/** For an agent that is guessed at from everywhere, tries from new places are delayed up to this and never refused: it may have moved. */
const AGENT_WAIT_MAX_MS = 2_000
/** Places from which right secrets came, the latest: some 100 bytes each. */
const KNOWN_MAX_COUNT = 65_536

export class Tries implements Attempts {
  readonly bySource: Penalties
  readonly byAgent: Penalties
  private readonly clock: Clock
  private readonly allowance: Allowance
  /** Sources, and sources with an agent, of right secrets. */
  private readonly known = new Recent<true>(KNOWN_MAX_COUNT)

  constructor(clock: Clock) {
    this.clock = clock
    this.allowance = new Allowance(clock)
    this.bySource = new Penalties(clock)
    this.byAgent = new Penalties(clock)
  }

  /** Did a right secret come from there? */
  knows(peer: string): boolean {
    return this.known.get(sourceOf(peer)) === true
  }

  begin({ peer }: Pick<Carrier, 'peer'>, agentId: string, challenge: () => void, refuse: () => void): Attempt {
    const source = sourceOf(peer)
    const pair = `${source} ${agentId}`
    const waitMs = this.bySource.waitMs(source)
    const agentWaitMs = this.known.get(pair) === true ? 0 : Math.min(this.byAgent.waitMs(agentId), AGENT_WAIT_MAX_MS)
    let spending: Spending | undefined
    let challenged = false
    let over = false
    this.bySource.began(source)
    this.byAgent.began(agentId)

    const end = (wrong: boolean): void => {
      if (over) return
      over = true
      cancel()
      spending?.takeBack()
      this.bySource.ended(source, wrong)
      this.byAgent.ended(agentId, wrong)
    }
    const go = (): void => {
      // Who was challenged knows whether the secret is right: from then on only the proof makes it no wrong try.
      spending = this.allowance.spend(source, this.known.get(source) === true, () => {
        challenged = true
        challenge()
      })
      if (spending === undefined) refuse()
    }
    const cancel = this.clock.later(waitMs > SOURCE_WAIT_MAX_MS ? 0 : Math.max(waitMs, agentWaitMs), waitMs > SOURCE_WAIT_MAX_MS ? refuse : go)
    return {
      right: () => {
        spending?.giveBack()
        end(false)
        this.known.set(source, true)
        this.known.set(pair, true)
      },
      over: () => end(challenged),
    }
  }
}

// How many requests a service takes, in all and from one source: token buckets in a table that does not grow (docs/policy.md).
import type { Clock } from '../protocol/clock.ts'
import type { Bucket } from './policy.ts'

/** Some 150 bytes each. Who has more sources than this loses the one that came longest ago, which then begins with a full bucket. */
export const BUCKETS_MAX_COUNT = 65_536

interface Level {
  tokens: number
  at: number
}

export class Rates {
  /** The one touched longest ago comes first. */
  private readonly levels = new Map<string, Level>()
  private readonly clock: Pick<Clock, 'now'>

  constructor(clock: Pick<Clock, 'now'>) {
    this.clock = clock
  }

  get size(): number {
    return this.levels.size
  }

  /** Takes one request out of each of these buckets, and says 0; or out of none, and says after how many seconds there will be one. */
  take(buckets: readonly (readonly [name: string, bucket: Bucket])[]): number {
    const now = this.clock.now()
    const levels = buckets.map(([name, bucket]) => this.fill(name, bucket, now))
    let waitS = 0
    for (let i = 0; i < levels.length; i++) if (levels[i]!.tokens < 1) waitS = Math.max(waitS, (1 - levels[i]!.tokens) / buckets[i]![1].per_second)
    if (waitS === 0) for (const level of levels) level.tokens--
    return Math.ceil(waitS)
  }

  private fill(name: string, { per_second, burst }: Bucket, now: number): Level {
    const level = this.levels.get(name) ?? { tokens: burst, at: now }
    this.levels.delete(name)
    if (this.levels.size >= BUCKETS_MAX_COUNT) this.levels.delete(this.levels.keys().next().value!)
    this.levels.set(name, level)
    level.tokens = Math.min(burst, level.tokens + ((now - level.at) / 1_000) * per_second)
    level.at = now
    return level
  }
}

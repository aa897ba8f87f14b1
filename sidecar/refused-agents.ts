// Who was refused as an agent, for the history: each source and agent at once and then once a minute with a count, and never more than a few of them.
import type { Clock } from '../protocol/clock.ts'
import type { ErrorCode } from '../protocol/errors.ts'
import { agentId } from './control-schemas.ts'
import type { Journal } from './journal.ts'
import { sourceOf } from './source.ts'

/** Anybody can be refused under any id, without end: that many of them have entries of their own in the history, the others one together. */
export const REFUSED_MAX_COUNT = 32
const TELL_EVERY_MS = 60_000

interface Refused {
  readonly source: string
  readonly subject: string
  /** The last one. */
  code: string
  /** Since it was told last. */
  count: number
}

/** What is no agent's id is nobody's to read. */
const ID = new RegExp(agentId.pattern!)
const subjectOf = (id: string): string => (ID.test(id) ? `agents/${id}` : 'agents')

export class RefusedAgents {
  private readonly clock: Pick<Clock, 'later'>
  private readonly journal: Pick<Journal, 'happened'>
  private readonly lately = new Map<string, Refused>()
  private others = 0
  private waits = false

  constructor(clock: Pick<Clock, 'later'>, journal: Pick<Journal, 'happened'>) {
    this.clock = clock
    this.journal = journal
  }

  /** Somebody at `peer` named this agent and did not come in. */
  refused(peer: string, id: string, code: ErrorCode): void {
    const source = sourceOf(peer)
    const subject = subjectOf(id)
    const key = `${source} ${subject}`
    const known = this.lately.get(key)
    if (known !== undefined) {
      known.count++
      known.code = code.name
    } else if (this.lately.size >= REFUSED_MAX_COUNT) this.others++
    else {
      const fresh = { source, subject, code: code.name, count: 1 }
      this.lately.set(key, fresh)
      this.tell(fresh)
    }
    this.arm()
  }

  private tell(one: Refused): void {
    this.journal.happened('agent_refused', one.subject, one.source, { code: one.code, count: one.count })
    one.count = 0
  }

  private arm(): void {
    if (this.waits) return
    this.waits = true
    this.clock.later(TELL_EVERY_MS, () => {
      this.waits = false
      for (const [key, one] of this.lately) {
        if (one.count > 0) this.tell(one)
        else this.lately.delete(key)
      }
      if (this.others > 0) this.journal.happened('agents_refused', 'agents', 'others', { count: this.others })
      this.others = 0
      if (this.lately.size > 0) this.arm()
    })
  }
}

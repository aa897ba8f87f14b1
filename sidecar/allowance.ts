// CPU time for those who have not proved who they are: a tenth of a core for all together. Whoever waits for it stands in a queue that has an end (SPEC §3).
import type { Clock } from '../protocol/clock.ts'

/** Of each millisecond. */
const SHARE = 0.1
/** What may be saved up: some 350 challenges at once, so that agents who all come back together are not held up. */
const SAVED_MAX_MS = 250
/** A tenth of a core does some 140 challenges a second: who stands behind so many waits two seconds. */
const WAITING_MAX_COUNT = 256

/** Work that somebody asked for. */
export interface Spending {
  /** It need not be done any more. */
  takeBack(): void
  /** It was well spent, on somebody who has proved who they are: it does not count. */
  giveBack(): void
}

interface Job {
  readonly work: () => void
  spentMs: number
}

/** Whose turn it is: each asker has one after the other, however much one of them wants. */
class Line {
  waiting = 0
  private readonly queues = new Map<string, Job[]>()

  add(who: string, job: Job): void {
    const queue = this.queues.get(who)
    if (queue === undefined) this.queues.set(who, [job])
    else queue.push(job)
    this.waiting++
  }

  next(): Job | undefined {
    const [first] = this.queues
    if (first === undefined) return undefined
    const [who, queue] = first
    const job = queue[0]!
    this.remove(who, job)
    return job
  }

  remove(who: string, job: Job): void {
    const queue = this.queues.get(who)
    const at = queue?.indexOf(job) ?? -1
    if (queue === undefined || at < 0) return
    queue.splice(at, 1)
    this.waiting--
    this.queues.delete(who)
    if (queue.length > 0) this.queues.set(who, queue)
  }
}

export class Allowance {
  private readonly clock: Clock
  private savedMs = SAVED_MAX_MS
  private countedAt: number
  /** Who is known to have had a right secret goes before all others. */
  private readonly lines = { known: new Line(), others: new Line() }
  private cancel: (() => void) | undefined

  constructor(clock: Clock) {
    this.clock = clock
    this.countedAt = clock.now()
  }

  /** Does `work` as soon as there is time for it, at once or later. Undefined: too many wait already. */
  spend(who: string, known: boolean, work: () => void): Spending | undefined {
    const line = known ? this.lines.known : this.lines.others
    if (line.waiting >= WAITING_MAX_COUNT) return undefined
    const job = { work, spentMs: 0 }
    line.add(who, job)
    if (this.cancel === undefined) this.pump()
    return {
      takeBack: () => line.remove(who, job),
      giveBack: () => {
        this.savedMs = Math.min(SAVED_MAX_MS, this.savedMs + job.spentMs)
        job.spentMs = 0
      },
    }
  }

  // One job a turn of the event loop: whoever has a right to it is served in between.
  private pump(): void {
    this.cancel = undefined
    const now = this.clock.now()
    this.savedMs = Math.min(SAVED_MAX_MS, this.savedMs + (now - this.countedAt) * SHARE)
    this.countedAt = now
    if (this.savedMs > 0) {
      const job = this.lines.known.next() ?? this.lines.others.next()
      if (job === undefined) return
      job.work()
      job.spentMs = this.clock.now() - now
      this.savedMs -= job.spentMs
    }
    if (this.lines.known.waiting + this.lines.others.waiting > 0) this.cancel = this.clock.later(this.savedMs > 0 ? 0 : 1 + Math.ceil(-this.savedMs / SHARE), () => this.pump())
  }
}

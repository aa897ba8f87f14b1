// A ring of streams that have DATA to send and wait for their turn (SPEC §7): constant time, no allocation.
import type { LaneStream } from './lane-stream.ts'

export class Turns {
  count = 0
  private first: LaneStream | undefined
  private last: LaneStream | undefined

  get empty(): boolean {
    return this.count === 0
  }

  add(stream: LaneStream): void {
    stream.inRing = true
    stream.nextInRing = undefined
    stream.previousInRing = this.last
    if (this.last === undefined) this.first = stream
    else this.last.nextInRing = stream
    this.last = stream
    this.count++
  }

  /** Takes out the one whose turn it is. The ring must not be empty. */
  next(): LaneStream {
    const stream = this.first!
    this.remove(stream)
    return stream
  }

  remove(stream: LaneStream): void {
    const { previousInRing: before, nextInRing: after } = stream
    if (before === undefined) this.first = after
    else before.nextInRing = after
    if (after === undefined) this.last = before
    else after.previousInRing = before
    stream.previousInRing = undefined
    stream.nextInRing = undefined
    stream.inRing = false
    this.count--
  }
}

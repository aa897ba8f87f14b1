// The streams of a lane by their ids, which mostly come in ascending order: found by halving, added at the end, and no memory taken for each.
//
// Not a Map: V8 links each table that a Map has outgrown to the next. Once one of them is old, all that come after it, and every stream and request that was in
// them, become old as well before they can be collected: a third of what small requests allocate. Not a table by a hash either: a peer chooses the ids.
import type { LaneStream } from './lane-stream.ts'

/** So many places of streams that are gone are kept, beside one for each that is there. */
const GONE_MAX_COUNT = 32

export class StreamTable {
  count = 0
  /** In ascending order, with those of streams that are gone among them. */
  private readonly ids: number[] = []
  private readonly streams: (LaneStream | undefined)[] = []

  find(id: number): LaneStream | undefined {
    const place = this.placeOf(id)
    return this.ids[place] === id ? this.streams[place] : undefined
  }

  /** None with its id may be there. */
  add(stream: LaneStream): void {
    const { ids, streams } = this
    const place = this.placeOf(stream.id)
    if (place === ids.length) {
      ids.push(stream.id)
      streams.push(stream)
    } else {
      const replaced = ids[place] === stream.id ? 1 : 0
      ids.splice(place, replaced, stream.id)
      streams.splice(place, replaced, stream)
    }
    this.count++
  }

  /** False if it is not there. */
  remove(stream: LaneStream): boolean {
    const place = this.placeOf(stream.id)
    if (this.streams[place] !== stream) return false
    this.streams[place] = undefined
    this.count--
    if (this.ids.length > 2 * this.count + GONE_MAX_COUNT) this.close()
    return true
  }

  all(): LaneStream[] {
    return this.streams.filter((stream) => stream !== undefined)
  }

  /** The first place whose id is not below `id`. */
  private placeOf(id: number): number {
    const { ids } = this
    let from = 0
    let to = ids.length
    if (to > 0 && ids[to - 1]! < id) return to
    while (from < to) {
      const middle = (from + to) >>> 1
      if (ids[middle]! < id) from = middle + 1
      else to = middle
    }
    return from
  }

  // In place: an array left behind would keep what it holds as an outgrown table does.
  private close(): void {
    let to = 0
    for (let from = 0; from < this.ids.length; from++) {
      const stream = this.streams[from]
      if (stream === undefined) continue
      this.ids[to] = this.ids[from]!
      this.streams[to++] = stream
    }
    this.ids.length = to
    this.streams.length = to
  }
}

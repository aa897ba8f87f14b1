// A table of what was touched last: it holds so many at most, and forgets the others without a search for them.

export class Recent<Value> {
  private young = new Map<string, Value>()
  /** Forgotten as a whole when the young ones are as many. */
  private old = new Map<string, Value>()
  private readonly half: number

  constructor(maxCount: number) {
    this.half = Math.floor(maxCount / 2)
  }

  get size(): number {
    return this.young.size + this.old.size
  }

  get(key: string): Value | undefined {
    return this.young.get(key) ?? this.old.get(key)
  }

  set(key: string, value: Value): void {
    this.old.delete(key)
    this.young.set(key, value)
    if (this.young.size < this.half) return
    this.old = this.young
    this.young = new Map()
  }

  delete(key: string): void {
    this.young.delete(key)
    this.old.delete(key)
  }
}

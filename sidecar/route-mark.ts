// The mark of the route table: that it is there says that the table is whole, and its size which parents of a name may be wildcards.
import { statSync } from 'node:fs'

export const MARK = '.mark'
/** Executable by its owner: the size holds. One without that, as others may write it, says nothing of wildcards. */
export const MARK_MODE = 0o744
const TEXT = '1\n'
/** So many lengths are told apart; a wildcard with more labels counts as one of the last. */
const LENGTHS = 9
const ALL = 2 ** LENGTHS - 1

/** Is the mode, whatever umask it went through, one that tells nginx something? */
export const isShort = (mode: number): boolean => (mode & 0o100) !== 0

export const isWildcard = (host: string): boolean => host.startsWith('+')

const bitOf = (wildcard: string): number => Math.min(wildcard.split('.').length - 1, LENGTHS) - 1

export class RouteMark {
  /** How many wildcards there are with one label behind the `+`, with two, … */
  private readonly counts = new Array<number>(LENGTHS).fill(0)
  /** The set that is on the disk: a bit for each length. Undefined without a mark. */
  private told: number | undefined

  /** What the process before left. */
  read(path: string): void {
    const stat = statSync(path, { throwIfNoEntry: false })
    this.told = undefined
    if (stat === undefined) return
    const set = stat.size - TEXT.length
    if (!isShort(stat.mode)) this.told = ALL
    // One of a strange size may tell of nothing that is there.
    else this.told = set >= 0 && set <= ALL ? set : 0
  }

  /** One wildcard more, or one less; other hosts count for nothing. */
  count(host: string, by: 1 | -1): void {
    if (isWildcard(host)) this.counts[bitOf(host)]! += by
  }

  /** Does nginx look for this wildcard? Without a mark it looks for none, and takes none for absent. */
  shows(host: string): boolean {
    return this.told === undefined || (this.told & (1 << bitOf(host))) !== 0
  }

  get set(): number {
    return this.counts.reduce((set, count, at) => (count > 0 ? set | (1 << at) : set), 0)
  }

  /** Writes the mark with this set, if there is one with another. Throws what `write` does. */
  tell(set: number, write: (text: string) => void): void {
    if (this.told === undefined || this.told === set) return
    this.make(set, write)
  }

  /** The same before the first wildcards of a change are written: those that are there and those that come. */
  tellMore(write: (text: string) => void): void {
    this.tell((this.told ?? 0) | this.set, write)
  }

  make(set: number, write: (text: string) => void): void {
    write(TEXT + '.'.repeat(set))
    this.told = set
  }
}

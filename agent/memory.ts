// What an agent remembers of the ways to its gateway: which one worked last, across restarts in a small file, and which ones break young.
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Clock } from '../protocol/clock.ts'
import { type Candidate, keyOf } from './candidates.ts'

/** A channel that broke sooner, and was not asked to leave, was a bad one. */
export const YOUNG_MS = 10_000
/** Channels that break within so long of one another broke by one and the same blow. */
const AT_ONCE_MS = 1_000
/** So many bad ones put a candidate behind the others … */
const BAD_COUNT = 2
/** … until the first of them is so long ago: what cuts it may be gone by then. */
const SHUNNED_MS = 300_000

/** An agent has one gateway, a machine a handful. */
const GATEWAYS_MAX_COUNT = 64
const FILE_MAX_BYTES = 65_536

export interface MemoryOptions {
  readonly gateway: string
  readonly clock: Clock
  /** Where it is kept. Not said: only as long as the process lives. */
  readonly file?: string | undefined
}

export class Memory {
  private readonly options: MemoryOptions
  /** The key of what worked last; undefined: the candidate preferred, or nothing yet. */
  private last: string | undefined
  /** When channels of a candidate broke young. */
  private readonly bad = new Map<string, number[]>()

  constructor(options: MemoryOptions) {
    this.options = options
    this.last = options.file === undefined ? undefined : readFile(options.file).get(options.gateway)
  }

  /** What worked last first, then as they come; those that break young last. */
  order(candidates: readonly Candidate[]): Candidate[] {
    const rank = (candidate: Candidate): number => (this.shuns(candidate) ? 2 : keyOf(candidate) === this.last ? 0 : 1)
    return candidates.toSorted((a, b) => rank(a) - rank(b))
  }

  /** It carries the session. `preferred`: no other would be had rather, so there is nothing to remember. */
  worked(candidate: Candidate, preferred: boolean): void {
    const key = preferred ? undefined : keyOf(candidate)
    if (key === this.last) return
    this.last = key
    if (this.options.file !== undefined) writeFile(this.options.file, this.options.gateway, key)
  }

  /** A channel of it broke, unasked, after so long; or nothing came over it any more. */
  broke(candidate: Candidate, livedMs: number, silent: boolean): void {
    const key = keyOf(candidate)
    if (livedMs >= YOUNG_MS && !silent) return void this.bad.delete(key)
    const times = this.bad.get(key) ?? []
    const now = this.options.clock.now()
    if (now - (times.at(-1) ?? -Infinity) >= AT_ONCE_MS) this.bad.set(key, [...times, now].slice(-BAD_COUNT))
  }

  /** Do its channels keep breaking young? */
  shuns(candidate: Candidate): boolean {
    const times = this.bad.get(keyOf(candidate)) ?? []
    return times.length === BAD_COUNT && times.every((time) => this.options.clock.now() - time < SHUNNED_MS)
  }
}

/** Gateway and key of what worked there, the oldest first. A file that is not there, or not ours, is an empty one. */
function readFile(path: string): Map<string, string> {
  try {
    if (statSync(path).size > FILE_MAX_BYTES) return new Map()
    const parsed = JSON.parse(readFileSync(path, 'utf8')) as unknown
    if (typeof parsed !== 'object' || parsed === null) return new Map()
    return new Map(Object.entries(parsed).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
  } catch {
    return new Map()
  }
}

// Whole, then renamed. Another agent may write at the same moment: one of them tries a little longer at its next start.
function writeFile(path: string, gateway: string, key: string | undefined): void {
  const ways = readFile(path)
  if (key === undefined && !ways.has(gateway)) return
  ways.delete(gateway)
  if (key !== undefined) ways.set(gateway, key)
  const text = `${JSON.stringify(Object.fromEntries([...ways].slice(-GATEWAYS_MAX_COUNT)))}\n`
  const draft = join(dirname(path), `.ways-${String(process.pid)}`)
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    try {
      writeFileSync(draft, text, { mode: 0o600 })
      renameSync(draft, path)
    } finally {
      rmSync(draft, { force: true })
    }
  } catch {
    // An agent without a home works as well; it only forgets.
  }
}

// CPU time and memory from /proc: of our processes with their children, and of the machine, to see who else was at work.
import { readdirSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** USER_HZ: 100 on every Linux architecture that Node runs on. */
const TICKS_PER_SECOND = 100

interface Stat {
  readonly parent: number
  readonly seconds: number
  /** Of children that have ended and were waited for. */
  readonly childSeconds: number
}

function stat(pid: number | string): Stat | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${String(pid)}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // The name in parentheses may hold anything: count from its end (proc(5): field 3 follows).
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number)
  const [utime = 0, stime = 0, cutime = 0, cstime = 0] = fields.slice(11, 15)
  return { parent: fields[1] ?? 0, seconds: (utime + stime) / TICKS_PER_SECOND, childSeconds: (cutime + cstime) / TICKS_PER_SECOND }
}

/** `roots` and everything under them that lives. */
export function family(roots: readonly number[]): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = stat(name)?.parent
    if (parent === undefined) continue
    const siblings = children.get(parent)
    if (siblings === undefined) children.set(parent, [Number(name)])
    else siblings.push(Number(name))
  }
  const all: number[] = [...roots]
  for (let index = 0; index < all.length; index++) all.push(...(children.get(all[index] ?? 0) ?? []))
  return [...new Set(all)]
}

/** CPU seconds that `roots` and what they started have used so far. */
export function cpuSeconds(roots: readonly number[]): number {
  return family(roots).reduce((sum, pid) => {
    const own = stat(pid)
    return own === undefined ? sum : sum + own.seconds + own.childSeconds
  }, 0)
}

/** Resident memory of `roots` and what they started, each shared page counted once (PSS), in bytes. */
export function memoryBytes(roots: readonly number[]): number {
  return family(roots).reduce((sum, pid) => {
    try {
      return sum + Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${String(pid)}/smaps_rollup`, 'latin1'))?.[1] ?? 0) * 1024
    } catch {
      return sum
    }
  }, 0)
}

/** Busy CPU seconds of the whole machine, stolen time (another guest's) among them. */
export function machineSeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (readFileSync('/proc/stat', 'latin1').split('\n')[0] ?? '').split(/\s+/).slice(1).map(Number)
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
}

/** Below this, what seems to be others' is the clock's: each process's time is told in ticks of 10 ms. */
const FOREIGN_LEAST_SECONDS = 0.08

/** What others used of the machine while `measure` ran, as a share of all its cores: 0 to 1. */
export async function withForeignLoad<T>(ours: () => readonly number[], measure: () => Promise<T>): Promise<{ value: T; foreign: number }> {
  const began = performance.now()
  const machine = machineSeconds()
  const own = cpuSeconds(ours())
  const value = await measure()
  const seconds = (performance.now() - began) / 1_000
  const others = machineSeconds() - machine - (cpuSeconds(ours()) - own)
  return { value, foreign: others < FOREIGN_LEAST_SECONDS ? 0 : others / seconds / cpus().length }
}

// What /proc tells of a process, which may end at any time: nothing then.
import { readFileSync } from 'node:fs'

export function factOf(pid: number | string, fact: 'cmdline' | 'environ' | 'status'): string {
  try {
    return readFileSync(`/proc/${String(pid)}/${fact}`, 'utf8')
  } catch {
    return ''
  }
}

/** One that has ended, and waits for somebody to ask how, does not run any more. */
export function isAlive(pid: number | string): boolean {
  return /^State:\s+[^Z\s]/m.test(factOf(pid, 'status'))
}

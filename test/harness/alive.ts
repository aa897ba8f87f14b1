// Does a process still run? One that has ended, and waits for somebody to ask how, does not.
import { readFileSync } from 'node:fs'

export function isAlive(pid: string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

// What protocol/ gets from the gateway's process: its clock, its randomness, its budget.
import { randomBytes } from 'node:crypto'
import { Budget } from '../protocol/credit.ts'
import type { Environment, Times } from '../protocol/environment.ts'

export function processEnvironment(times: Times, budgetBytes: number): Environment {
  return {
    clock: {
      now: () => performance.now(),
      later: (ms, then) => {
        const timer = setTimeout(then, ms)
        return () => clearTimeout(timer)
      },
      soon: (then) => void setImmediate(then),
    },
    random: (bytes) => randomBytes(bytes),
    budget: new Budget(budgetBytes),
    times,
  }
}

// What protocol/ gets from an agent's process: its clock, its randomness, its budget.
import { randomBytes } from 'node:crypto'
import { Budget } from '../protocol/credit.ts'
import type { Environment, Times } from '../protocol/environment.ts'
import { AGENT_BUDGET_BYTES } from '../protocol/limits.ts'

/** Until the gateway's terms are known, the numbers of SPEC §2 and §3. */
export const AGENT_TIMES: Times = { heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 }

/** Node takes what is longer for a millisecond. */
const TIMER_MAX_MS = 2 ** 31 - 1

export function processEnvironment(times: Times = AGENT_TIMES): Environment {
  return {
    clock: {
      now: () => performance.now(),
      later: (ms, then) => {
        const timer = setTimeout(then, Math.min(ms, TIMER_MAX_MS))
        return () => clearTimeout(timer)
      },
      soon: (then) => void setImmediate(then),
    },
    random: (bytes) => randomBytes(bytes),
    budget: new Budget(AGENT_BUDGET_BYTES),
    times,
  }
}

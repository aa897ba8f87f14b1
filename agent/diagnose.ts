// `postern diagnose`: every channel by every way is dialed and probed, then the join string is tried over the first that works.
import { errors } from '../protocol/errors.ts'
import { ready } from '../protocol/opaque.ts'
import { type Candidate, candidateText, wayName } from './candidates.ts'
import { type Entrant, enter, FINAL } from './enter.ts'
import { attempt, type Racer } from './race.ts'

/** Beyond what a dial and a probe take where anything works at all. */
const ATTEMPT_MS = 15_000
/** One at a time takes minutes where packets vanish; all at once might be what fails. */
const AT_ONCE_COUNT = 3

export interface Tried {
  readonly kind: string
  readonly way: string
  readonly works: boolean
  readonly ms: number
  /** Why it does not work; empty if it does. */
  readonly why: string
}

/** `taken`: the gateway let the agent in, and proved that it is the one of the join string. */
export interface LoginTried {
  readonly result: 'taken' | 'refused' | 'failed'
  readonly why: string
}

/** Tries all. `tell` hears of each, in the order of the candidates. */
export async function tryAll(candidates: readonly Candidate[], racer: Racer, tell: (tried: Tried) => void): Promise<Tried[]> {
  const all: Tried[] = []
  let told = 0
  let next = 0
  const worker = async (): Promise<void> => {
    for (let i = next++; i < candidates.length; i = next++) {
      all[i] = await tryOne(candidates[i]!, racer)
      for (; all[told] !== undefined; told++) tell(all[told]!)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE_COUNT }, worker))
  return all
}

function tryOne(candidate: Candidate, racer: Racer): Promise<Tried> {
  const { clock } = racer.environment
  const began = clock.now()
  return new Promise((resolve) => {
    const over = (works: boolean, why: string): void => {
      cancelLimit()
      resolve({ kind: candidate.kind, way: wayName(candidate.way), works, ms: Math.round(clock.now() - began), why })
    }
    const cancelLimit = clock.later(ATTEMPT_MS, () => {
      cancel()
      over(false, `no answer within ${String(ATTEMPT_MS / 1_000)} s`)
    })
    const cancel = attempt(candidate, racer, (outcome) => {
      if ('reason' in outcome) return over(false, outcome.detail)
      outcome.close()
      over(true, '')
    })
  })
}

/** Logs in over `candidate`, and leaves again at once: it serves nothing. */
export async function tryLogin(candidate: Candidate, racer: Racer, entrant: Entrant): Promise<LoginTried> {
  await ready
  return new Promise((resolve) => {
    attempt(candidate, racer, (carrier) => {
      if ('reason' in carrier) return resolve({ result: 'failed', why: carrier.detail })
      enter(carrier, entrant, racer.environment, (outcome) => {
        if ('code' in outcome) return resolve({ result: FINAL.has(outcome.code) ? 'refused' : 'failed', why: outcome.detail })
        outcome.end(errors.draining, 'a diagnosis is over')
        resolve({ result: 'taken', why: '' })
      })
    })
  })
}

/** The table, a line at a time: each try is told as soon as it is over. */
export class Rows {
  private readonly widths: readonly number[]

  constructor(candidates: readonly Candidate[]) {
    const widest = (texts: readonly string[]): number => Math.max(...texts.map((text) => text.length))
    this.widths = [widest(['KIND', ...candidates.map(({ kind }) => kind)]), widest(['WAY', ...candidates.map(({ way }) => wayName(way))]), 'RESULT'.length, '15000 ms'.length]
  }

  get head(): string {
    return this.line(['KIND', 'WAY', 'RESULT', 'TIME', 'WHY'])
  }

  row({ kind, way, works, ms, why }: Tried): string {
    return this.line([kind, way, works ? 'works' : 'fails', `${String(ms)} ms`, why])
  }

  private line(cells: readonly string[]): string {
    return cells.map((cell, column) => cell.padEnd(this.widths[column] ?? 0)).join('  ').trimEnd()
  }
}

/** The last line. */
export function verdict(best: Candidate | undefined, login: LoginTried | undefined): string {
  if (best === undefined || login === undefined) return 'no way leads to the gateway'
  const over = `over ${candidateText(best)}`
  if (login.result === 'taken') return `the gateway takes this agent, ${over}`
  return login.result === 'refused' ? `the gateway refuses this agent, ${over}: ${login.why}` : `no session ${over}: ${login.why}`
}

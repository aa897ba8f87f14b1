// A race: candidates are dialed and probed by preference, each with a head start before the next; the first over which a sign of life came back wins.
import type { Carrier } from '../protocol/channel.ts'
import type { Environment } from '../protocol/environment.ts'
import { probe } from '../protocol/probe.ts'
import { type Candidate, candidateText } from './candidates.ts'
import type { DialFailure } from './channel-dial.ts'

/** Long enough for a good way to answer, too short for anybody to notice that the first was a bad one (RFC 8305 has 250 ms for the same). */
export const HEAD_START_MS = 300
/** More at once would make an old proxy, or a modem, slow for all of them … */
const AT_ONCE_MAX_COUNT = 3
/** … but one that took so long hardly keeps anything busy: it may still win, and another has its place. */
const SLOW_MS = 5_000
/** A channel without an answer for so long carries no visitor's request in time either. */
const PROBE_MS = 5_000
/** A command may have to find and convince another machine first, as ssh does. */
const PIPE_PROBE_MS = 15_000
/** Then whoever waits hears why, and all of it begins again. */
const RACE_MS = 20_000

/** What a dial and a probe need of the process. */
export interface Racer {
  readonly environment: Environment
  readonly userAgent: string
}

/** Why a candidate, or all of them, came to nothing. `silent`: there is a channel, but nothing comes back over it. */
export interface Failure extends Omit<DialFailure, 'reason'> {
  readonly reason: DialFailure['reason'] | 'silent'
}

export interface Winner {
  readonly candidate: Candidate
  /** Proven, and as fresh as it was dialed. */
  readonly carrier: Carrier
}

/** Dials one candidate and proves that messages go both ways over it. `done` is called once; the function returned gives up, and it is not called then. */
export function attempt(candidate: Candidate, racer: Racer, done: (outcome: Carrier | Failure) => void): () => void {
  let cancelProbe: (() => void) | undefined
  const cancelDial = candidate.dial({ ...candidate, userAgent: racer.userAgent }, (outcome) => {
    if ('reason' in outcome) return done(outcome)
    const withinMs = candidate.kind === 'pipe' ? PIPE_PROBE_MS : PROBE_MS
    cancelProbe = probe(outcome, racer.environment, withinMs, (failure) => done(failure === undefined ? outcome : { reason: 'silent', detail: `${outcome.peer}: ${failure}` }))
  })
  return () => (cancelProbe ?? cancelDial)()
}

/** Races. `done` is called once, with the winner or with why there is none; the function returned gives up, and it is not called then. */
export function race(candidates: readonly Candidate[], racer: Racer, done: (outcome: Winner | Failure) => void): () => void {
  const { clock } = racer.environment
  const cancels = new Set<() => void>()
  const failures = new Map<Candidate, Failure>()
  let started = 0
  let busy = 0
  let over = false
  let cancelHeadStart = nothing

  const finish = (): void => {
    over = true
    cancelHeadStart()
    for (const cancel of cancels) cancel()
  }
  const fail = (): void => {
    finish()
    done(verdict(candidates.filter((candidate) => failures.has(candidate)), failures))
  }
  const settled = (candidate: Candidate, outcome: Carrier | Failure): void => {
    if (over) return
    if (!('reason' in outcome)) {
      finish()
      return done({ candidate, carrier: outcome })
    }
    failures.set(candidate, outcome)
    // While a gateway is away a thousand agents ask for it: once each, not for every kind.
    if (outcome.nobody === true) for (const other of candidates.slice(started)) if (samePlace(other, candidate)) failures.set(other, outcome)
    if (failures.size === candidates.length) fail()
    else begin()
  }
  const begin = (): void => {
    cancelHeadStart()
    while (failures.has(candidates[started]!)) started++
    const candidate = candidates[started]
    if (over || candidate === undefined || busy >= AT_ONCE_MAX_COUNT) return
    started++
    busy++
    let counts = true
    const release = (): void => {
      if (counts) busy--
      counts = false
    }
    cancels.add(clock.later(SLOW_MS, () => {
      release()
      begin()
    }))
    cancelHeadStart = clock.later(HEAD_START_MS, begin)
    const running = { cancel: nothing }
    const give = (): void => running.cancel()
    cancels.add(give)
    running.cancel = attempt(candidate, racer, (outcome) => {
      cancels.delete(give)
      release()
      settled(candidate, outcome)
    })
  }
  const outOfTime = (): void => {
    for (const candidate of candidates.slice(0, started)) {
      if (!failures.has(candidate)) failures.set(candidate, { reason: 'silent', detail: `no answer within ${String(RACE_MS / 1_000)} s` })
    }
    fail()
  }
  cancels.add(clock.later(RACE_MS, outOfTime))
  begin()
  return () => {
    if (!over) finish()
  }
}

const samePlace = (a: Candidate, b: Candidate): boolean => a.gateway === b.gateway && a.way === b.way && a.pipe === undefined && b.pipe === undefined

/** These say more of what is to be done than any other: a certificate first, then a proxy's word. */
const TELLING: readonly Failure['reason'][] = ['tls', 'proxy']

/** One failure for all: the most telling reason, else that of the candidate preferred; each candidate's own words, once where they are the same. */
function verdict(candidates: readonly Candidate[], failures: ReadonlyMap<Candidate, Failure>): Failure {
  const all = candidates.map((candidate) => ({ candidate, failure: failures.get(candidate)! }))
  const reason = TELLING.find((one) => all.some(({ failure }) => failure.reason === one)) ?? all[0]!.failure.reason
  const byDetail = Map.groupBy(all, ({ failure }) => failure.detail)
  if (byDetail.size === 1) return { reason, detail: all[0]!.failure.detail }
  const oneWay = new Set(all.map(({ candidate }) => candidate.way)).size === 1
  const name = ({ candidate }: (typeof all)[number]): string => (oneWay ? candidate.kind : candidateText(candidate))
  return { reason, detail: [...byDetail].map(([detail, ones]) => `${ones.map(name).join(', ')}: ${detail}`).join('; ') }
}

const nothing = (): void => undefined

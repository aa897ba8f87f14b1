// The one way to leave a session: it gets nothing new, what is on its way to it is taken, what is under way ends, and only then does the session end.
import type { Clock } from '../protocol/clock.ts'
import type { Serving } from './serving.ts'

/** How long exchanges under way may take. */
export const DRAIN_MS = 30_000
/** How long the last bytes may take to be acknowledged, where there is perhaps nobody to do so. */
const LAST_BYTES_MS = 2_000
/** How soon it looks: no visitor notices … */
const LOOK_MS = 20
/** … and later on after this part of what it has waited, but an agent that was told to end waits for no look any longer than this. */
const LOOK_PART = 1 / 100
const LOOK_MAX_MS = 1_000

export async function leave(serving: Serving, clock: Clock, withinMs = DRAIN_MS): Promise<void> {
  const began = clock.now()
  serving.retire()
  // What the gateway sent before it heard that is still to come: told of a drain at once, it would have to try that again, which it can not with a large body.
  await lookUntil(() => serving.settled, began + DRAIN_MS, clock)
  serving.session.drain()
  const was = serving.idle
  await lookUntil(() => serving.idle, began + withinMs, clock)
  await lookUntil(() => serving.session.ended || serving.session.allArrived, (was ? began : clock.now()) + LAST_BYTES_MS, clock)
  if (!serving.session.ended) serving.close()
}

/** Resolves when it is `enough`, or at `until` on the clock. */
export async function lookUntil(enough: () => boolean, until: number, clock: Clock): Promise<void> {
  const began = clock.now()
  while (!enough() && clock.now() < until) {
    const ms = Math.min(LOOK_MAX_MS, Math.max(LOOK_MS, (clock.now() - began) * LOOK_PART))
    await new Promise<void>((resolve) => void clock.later(ms, resolve))
  }
}

// Waits for a condition that no event tells of; fails with the logs instead of hanging.

export interface UntilOptions {
  /** What to show if it never holds. */
  logs?: () => string
  /** Far above what any machine needs: reached only by a fault. */
  timeoutMs?: number
}

const POLL_MS = 5

/** Resolves as soon as `condition` gives something other than undefined or false, with what it gave. */
export async function until<T>(what: string, condition: () => T | undefined | false | Promise<T | undefined | false>, options: UntilOptions = {}): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 15_000
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await condition()
    if (value !== undefined && value !== false) return value
    if (performance.now() > deadline) {
      const logs = options.logs?.() ?? ''
      throw new Error(`not within ${String(timeoutMs)} ms: ${what}${logs === '' ? '' : `\n${logs}`}`)
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

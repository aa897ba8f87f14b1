// A probe: shows within a bound of time that messages really go both ways over a fresh carrier, before anything depends on it (SPEC §2).
import type { Carrier } from './channel.ts'
import type { Environment } from './environment.ts'
import { decodeBeat, encodeBeat, Kind } from './messages.ts'

/**
 * Asks the gateway for a sign of life. `done` is called once: with undefined, and the carrier is as fresh as before, or with why not, and it is cut.
 * The function returned gives up and cuts it; `done` is not called then.
 */
export function probe(carrier: Carrier, environment: Pick<Environment, 'clock' | 'random'>, withinMs: number, done: (failure: string | undefined) => void): () => void {
  const asked = environment.random(4).readUInt32BE(0)
  let over = false
  const finish = (failure: string | undefined): void => {
    if (over) return
    over = true
    cancel()
    if (failure !== undefined) carrier.abort()
    done(failure)
  }
  const cancel = environment.clock.later(withinMs, () => finish(`no sign of life came back within ${(withinMs / 1_000).toFixed(1)} s`))
  carrier.onMessage = (message) => {
    if (over) return
    if (message[0] !== Kind.beat || message.length !== encodeBeat(true, 0).length) return finish('what answers is no gateway')
    const { answer, number } = decodeBeat(message)
    finish(answer && number === asked ? undefined : 'what answers is no gateway')
  }
  carrier.onClosed = (reason) => finish(reason)
  carrier.send(encodeBeat(false, asked))
  return () => {
    if (over) return
    over = true
    cancel()
    carrier.abort()
  }
}

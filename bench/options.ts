// The options of `npm run bench` and what they mean.
import { parseArgs } from 'node:util'

export const MEASUREMENTS = ['small', 'down', 'up', 'first', 'idle'] as const
export type Measurement = (typeof MEASUREMENTS)[number]

export interface Options {
  readonly tiny: boolean
  readonly only: readonly Measurement[]
  /** Names of peers; empty: all. */
  readonly peers: readonly string[]
  /** How many rounds; in each every peer is measured once, in turning order. */
  readonly pairs: number
  readonly seconds: number
  readonly connections: number
  readonly fileBytes: number
  /** New connections a round for the time to the first byte. */
  readonly firstBytes: number
  /** Foreign load above this share of all cores makes a run worthless. */
  readonly foreignMax: number
}

export const USAGE = `usage: npm run bench [-- OPTIONS]
  --only LIST      of small, down, up, first, idle (default: all)
  --peers LIST     of the names in the table (default: all; direct is always measured)
  --pairs N        rounds (default 5)
  --seconds N      for each run of small answers (default 5)
  --tiny           everything once and as small as it gets: shows that the benchmark works, measures nothing, writes no file`

/** Throws an Error for people if the arguments make no sense. */
export function readOptions(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: { tiny: { type: 'boolean' }, only: { type: 'string' }, peers: { type: 'string' }, pairs: { type: 'string' }, seconds: { type: 'string' } },
  })
  const tiny = values.tiny === true
  const only = (values.only ?? MEASUREMENTS.join(',')).split(',').map((name) => {
    const known = MEASUREMENTS.find((one) => one === name)
    if (known === undefined) throw new Error(`no such measurement: ${name}`)
    return known
  })
  return {
    tiny,
    only,
    peers: values.peers === undefined ? [] : values.peers.split(','),
    pairs: positive('pairs', values.pairs, tiny ? 1 : 5),
    seconds: positive('seconds', values.seconds, tiny ? 1 : 5),
    connections: tiny ? 2 : 64,
    fileBytes: (tiny ? 1 : 100) * 1024 * 1024,
    firstBytes: tiny ? 3 : 100,
    foreignMax: 0.1,
  }
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${name} takes a whole number of at least 1`)
  return number
}

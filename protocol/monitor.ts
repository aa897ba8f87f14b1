// What an agent tells of its process when it is asked, on a monitor stream: one JSON object on one line (SPEC §10.3).
import { errors, PosternError } from './errors.ts'
import { encodeLine, isWhole, JsonLines } from './json-lines.ts'

/** Some dozen numbers and two names. */
export const FIGURES_LINE_MAX_BYTES = 4_096
/** Whoever reads it on a terminal is to get nothing but text. */
const NAME = /^[\x20-\x7e]{1,64}$/

/** Counts are those since the process began. */
export interface FiguresSaid {
  /** Of the agent, with its name. */
  readonly version: string
  /** Of Node. */
  readonly node: string
  readonly uptime_s: number
  /** All that the process occupies, and what of its heap is in use. */
  readonly rss_bytes: number
  readonly heap_bytes: number
  /** Of one core. */
  readonly cpu_s: number
  /** How much later than it should the event loop came to a timer, just now. */
  readonly loop_delay_ms: number
  /** Exchanges under way, those that are over, and what of these failed for the origin's sake. */
  readonly exchanges: number
  readonly served: number
  readonly failed: number
  /** Of this session, as the agent counts: to the gateway, and from it. */
  readonly sent_bytes: number
  readonly received_bytes: number
}

const NAMES = ['version', 'node'] as const
const TIMES = ['uptime_s', 'cpu_s', 'loop_delay_ms'] as const
const COUNTS = ['rss_bytes', 'heap_bytes', 'exchanges', 'served', 'failed', 'sent_bytes', 'received_bytes'] as const

export const encodeFigures = (said: FiguresSaid): Uint8Array => encodeLine(said)

/** Cuts what comes over the stream into what was said. Members it does not know are passed over. */
export class FiguresReader extends JsonLines<FiguresSaid> {
  constructor() {
    super(FIGURES_LINE_MAX_BYTES, read)
  }
}

function read(line: object): FiguresSaid {
  const said = line as Partial<Record<string, unknown>>
  const right =
    NAMES.every((name) => typeof said[name] === 'string' && NAME.test(said[name])) &&
    TIMES.every((name) => Number.isFinite(said[name]) && (said[name] as number) >= 0) &&
    COUNTS.every((name) => isWhole(said[name]))
  if (!right) throw new PosternError(errors.protocol_error, 'figures of another form')
  return Object.fromEntries([...NAMES, ...TIMES, ...COUNTS].map((name) => [name, said[name]])) as unknown as FiguresSaid
}

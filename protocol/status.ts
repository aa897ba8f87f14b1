// What an agent says of itself on its status stream: the channels it has and by which ways, one JSON object a line (SPEC §10.2).
import { errors, PosternError } from './errors.ts'
import { encodeLine, isWhole, JsonLines } from './json-lines.ts'
import { CHANNELS_MAX_COUNT, LANES_MAX_COUNT } from './limits.ts'

/** A line of as many channels as a session may have, each by a way with the longest name, stays below this. */
export const STATUS_LINE_MAX_BYTES = 16_384
/** Whoever reads it on a terminal is to get nothing but text. */
const KIND = /^[a-z0-9-]{1,32}$/
const WAY = /^[\x20-\x7e]{1,300}$/

export interface ChannelSaid {
  readonly kind: string
  /** `direct`, or by which proxy. */
  readonly way: string
  /** Null before it was measured. */
  readonly round_trip_ms: number | null
  readonly lanes: readonly number[]
}

export interface StatusSaid {
  readonly channels: readonly ChannelSaid[]
  /** Under way at the agent when it said this. */
  readonly exchanges: number
}

export const encodeStatus = (said: StatusSaid): Uint8Array => encodeLine(said)

/** Cuts what comes over the stream into what was said. Members it does not know are passed over. */
export class StatusReader extends JsonLines<StatusSaid> {
  constructor() {
    super(STATUS_LINE_MAX_BYTES, read)
  }
}

function read(line: object): StatusSaid {
  const { channels, exchanges } = line as Partial<Record<string, unknown>>
  if (!Array.isArray(channels) || channels.length > CHANNELS_MAX_COUNT || !isWhole(exchanges)) throw new PosternError(errors.protocol_error, 'a status of another form')
  return { channels: channels.map(readChannel), exchanges }
}

function readChannel(channel: unknown): ChannelSaid {
  const { kind, way, round_trip_ms, lanes } = (typeof channel === 'object' && channel !== null ? channel : {}) as Partial<Record<string, unknown>>
  const texts = typeof kind === 'string' && KIND.test(kind) && typeof way === 'string' && WAY.test(way)
  const time = round_trip_ms === null || (typeof round_trip_ms === 'number' && round_trip_ms >= 0)
  if (!texts || !time || !Array.isArray(lanes) || lanes.length > LANES_MAX_COUNT || !lanes.every(isWhole)) throw new PosternError(errors.protocol_error, 'a channel of another form')
  return { kind, way, round_trip_ms, lanes }
}

// What a session tells its owner.
import type { Carrier } from './channel.ts'
import { type ErrorCode, errors } from './errors.ts'
import type { Opening, Stream, StreamEvents } from './stream.ts'

export interface SessionEvents {
  /** The peer opened a stream: return what it is to be told, or a code to refuse it with (RESET, not begun). */
  onOpen(opening: Opening, stream: Stream): StreamEvents | ErrorCode
  /** The peer takes no new streams of ours any more (DRAIN). */
  onPeerDrain(): void
  /** The last channel is gone; another may come within the grace. */
  onDetached(reason: string): void
  /** A channel carries the session again. */
  onAttached(): void
  /** A channel of the session is gone; others may be there still. */
  onChannelLost(carrier: Carrier, reason: string): void
  /** Agent: nothing comes over this channel any more, though something should. Its lanes want another; it may live all the same. */
  onStalled(carrier: Carrier): void
  /** The gateway asks for another channel instead of this one (MOVE). */
  onMove(code: ErrorCode, carrier: Carrier): void
  /** Over, once. Every stream had its onReset before. */
  onEnd(code: ErrorCode, detail: string): void
}

const nothing = (): void => undefined

/** To nobody, as long as it has none. */
export const SILENT: SessionEvents = {
  onOpen: () => errors.refused,
  onPeerDrain: nothing,
  onDetached: nothing,
  onAttached: nothing,
  onChannelLost: nothing,
  onStalled: nothing,
  onMove: nothing,
  onEnd: nothing,
}

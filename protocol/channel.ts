// The contract of a carrier: messages in order over one transport, whatever it is made of (SPEC §2).

/** One end of one transport. Its owner sets the three callbacks before the turn ends in which it got the carrier. */
export interface Carrier {
  /** `websocket`, later `http2`, `tcp`, `sse`, `long-poll`, `pipe`. */
  readonly kind: string
  /** Where the other end is, for people. */
  readonly peer: string
  /** The nginx worker ($pid) it came through; 0 if none or unknown. */
  readonly worker: number
  /** Sends a message (not copied). False: wait for onDrain before sending more than heartbeats. */
  send(message: Buffer): boolean
  /** Closes after what was sent has left; `abort` at once. onClosed follows either way, once. */
  close(): void
  abort(): void
  onMessage: (message: Buffer) => void
  onDrain: () => void
  onClosed: (reason: string) => void
}

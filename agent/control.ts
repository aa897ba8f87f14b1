// The agent's end of the control stream: says what it serves, hears what it may serve and what is set for it, and what of its word counts (SPEC §10.1).
import { type AgentSays, ControlReader, encodeControl, type GatewaySays, type Taken } from '../protocol/control.ts'
import { errors, PosternError } from '../protocol/errors.ts'
import type { Session } from '../protocol/session.ts'
import { type Fields, NO_FIELDS, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'

/** A gateway that has not said by then that the last word counts may be one that never says so: nobody waits longer for it. */
export const TAKEN_WAIT_MS = 2_000

export class AgentControl implements StreamEvents {
  private readonly session: Session
  private readonly reader = new ControlReader()
  private readonly onTaken: () => void
  private readonly onSaid: (said: GatewaySays) => void
  private readonly stream: Stream | undefined
  private said: string
  private saidCount = 0
  /** Streams that the gateway had opened when it took the last word; 0 if it never said so. */
  private openedCount = 0
  private cancelWait: (() => void) | undefined

  /** Opens the stream and says `first` with it; `onTaken` is told each time when the last word counts. `uuid`: 32 random hexadecimal digits. */
  constructor(session: Session, uuid: string, first: AgentSays, onTaken: () => void, onSaid: (said: GatewaySays) => void) {
    this.session = session
    this.onTaken = onTaken
    this.onSaid = onSaid
    this.said = JSON.stringify(first)
    this.stream = session.open({ kind: StreamKind.control, uuid, service: '', fields: NO_FIELDS, extension: NO_FIELDS, body: encodeControl(first), ended: false }, this)
    this.wait()
  }

  /** Does the last word count, as far as that can be known? */
  get taken(): boolean {
    return this.cancelWait === undefined
  }

  /** The same; and has all come that the gateway sent before? */
  get settled(): boolean {
    return this.taken && this.session.cameCount >= this.openedCount
  }

  /** Says how it is from now on, if that is news. */
  say(says: AgentSays): void {
    const said = JSON.stringify(says)
    if (said === this.said || this.session.ended) return
    this.said = said
    this.stream?.write(encodeControl(says))
    this.wait()
  }

  onHead(_fields: Fields, _extension: Fields, body: Uint8Array): void {
    this.onData(body)
  }

  onData(chunk: Uint8Array): void {
    this.stream?.consumed(chunk.length)
    try {
      for (const message of this.reader.push(chunk)) {
        if ('taken' in message) this.hear(message)
        else if (!('serves' in message)) this.onSaid(message)
      }
    } catch (error) {
      this.session.end(error instanceof PosternError ? error.code : errors.protocol_error, error instanceof Error ? error.message : String(error))
    }
  }

  onEnd(): void {
    this.stream?.end()
  }

  /** The session is over, or the gateway wants no such stream. Without it the gateway can tell the agent nothing: what it knows stays true until the next session. */
  onReset(): void {
    if (this.session.ended) this.cancelWait?.()
  }

  onStop(): void {}
  onDrain(): void {}

  private wait(): void {
    this.saidCount++
    this.cancelWait?.()
    this.cancelWait = this.session.clock.later(TAKEN_WAIT_MS, () => this.counts())
  }

  private hear({ taken, opened }: Taken): void {
    // Of an older word, or once nobody waits for it any more: what it says of streams is worth something all the same.
    if (taken !== this.saidCount) return
    this.openedCount = opened
    if (!this.taken) this.counts()
  }

  private counts(): void {
    this.cancelWait?.()
    this.cancelWait = undefined
    this.onTaken()
  }
}

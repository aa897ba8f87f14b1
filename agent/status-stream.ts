// The agent's status stream: tells the gateway by which channels and ways it has come, when that changes, and seldom (SPEC §10.2).
import type { Session } from '../protocol/session.ts'
import { encodeStatus, type StatusSaid } from '../protocol/status.ts'
import { NO_FIELDS, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'

/** What is asked of an idle link is little; people look at this, not programs. */
export const STATUS_EVERY_MS = 10_000

export class AgentStatus implements StreamEvents {
  private readonly session: Session
  private readonly now: () => StatusSaid
  private stream: Stream | undefined
  private said: string
  private cancel: (() => void) | undefined

  /** Opens the stream and says what `now` says with it. `uuid`: 32 random hexadecimal digits. */
  constructor(session: Session, uuid: string, now: () => StatusSaid) {
    this.session = session
    this.now = now
    this.said = newsOf(now())
    this.stream = session.open({ kind: StreamKind.status, uuid, service: '', fields: NO_FIELDS, extension: NO_FIELDS, body: encodeStatus(now()), ended: false }, this)
    this.rest()
  }

  /** Is the stream one of the session's? */
  get open(): boolean {
    return this.stream !== undefined
  }

  /** Something may have changed. It is said at once, or once {@link STATUS_EVERY_MS} are over since the last time. */
  changed(): void {
    if (this.cancel !== undefined || this.session.ended) return
    const said = this.now()
    // Without a channel nobody would hear it now, and what comes next would have to wait.
    if (this.stream === undefined || said.channels.length === 0 || newsOf(said) === this.said) return
    this.said = newsOf(said)
    this.stream.write(encodeStatus(said))
    this.rest()
  }

  close(): void {
    this.cancel?.()
    this.stream = undefined
  }

  private rest(): void {
    this.cancel = this.session.clock.later(STATUS_EVERY_MS, () => {
      this.cancel = undefined
      this.changed()
    })
  }

  onHead(_fields: unknown, _extension: unknown, body: Uint8Array): void {
    this.onData(body)
  }
  // The gateway has nothing to say here.
  onData(chunk: Uint8Array): void {
    this.stream?.consumed(chunk.length)
  }
  onEnd(): void {
    this.stream?.end()
    this.close()
  }
  onStop(): void {
    this.stream?.end()
    this.close()
  }
  onReset(): void {
    this.close()
  }
  onDrain(): void {}
}

/** Times and counts change all the time: they are told with what is news, and are none. */
const newsOf = ({ channels }: StatusSaid): string => JSON.stringify(channels.map(({ kind, way, lanes }) => [kind, way, lanes]))

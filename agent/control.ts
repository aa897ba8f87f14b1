// The agent's end of the control stream: says what it serves, hears what it may serve and what is set for it (SPEC §10.1).
import { type AgentSays, ControlReader, encodeControl, type GatewaySays } from '../protocol/control.ts'
import { errors, PosternError } from '../protocol/errors.ts'
import type { Session } from '../protocol/session.ts'
import { type Fields, NO_FIELDS, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'

export class AgentControl implements StreamEvents {
  private readonly session: Session
  private readonly reader = new ControlReader()
  private readonly onTaken: () => void
  private readonly onSaid: (said: GatewaySays) => void
  private readonly stream: Stream | undefined
  private said: string

  /** Opens the stream and says `first` with it; `onTaken` is told when the gateway has heard that. `uuid`: 32 random hexadecimal digits. */
  constructor(session: Session, uuid: string, first: AgentSays, onTaken: () => void, onSaid: (said: GatewaySays) => void) {
    this.session = session
    this.onTaken = onTaken
    this.onSaid = onSaid
    this.said = JSON.stringify(first)
    this.stream = session.open({ kind: StreamKind.control, uuid, service: '', fields: NO_FIELDS, extension: NO_FIELDS, body: encodeControl(first), ended: false }, this)
  }

  /** Says how it is from now on, if that is news. */
  say(says: AgentSays): void {
    const said = JSON.stringify(says)
    if (said === this.said || this.session.ended) return
    this.said = said
    this.stream?.write(encodeControl(says))
  }

  onHead(_fields: Fields, _extension: Fields, body: Uint8Array): void {
    this.onTaken()
    this.onData(body)
  }

  onData(chunk: Uint8Array): void {
    this.stream?.consumed(chunk.length)
    try {
      for (const message of this.reader.push(chunk)) if (!('serves' in message)) this.onSaid(message)
    } catch (error) {
      this.session.end(error instanceof PosternError ? error.code : errors.protocol_error, error instanceof Error ? error.message : String(error))
    }
  }

  onEnd(): void {
    this.stream?.end()
  }

  // Without this stream the gateway can tell the agent nothing: what it knows stays true until the next session.
  onStop(): void {}
  onReset(): void {}
  onDrain(): void {}
}

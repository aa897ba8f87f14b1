// The agent's end of the control stream: says what it serves, hears what it may serve (SPEC §10.1).
import { ControlReader, encodeControl, type ServedService } from '../protocol/control.ts'
import { errors, PosternError } from '../protocol/errors.ts'
import type { Session } from '../protocol/session.ts'
import { type Fields, NO_FIELDS, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'

export class AgentControl implements StreamEvents {
  private readonly session: Session
  private readonly reader = new ControlReader()
  private readonly onServices: (services: readonly ServedService[]) => void
  private readonly stream: Stream | undefined
  private said: string

  /** Opens the stream and says `serves` with it. `uuid`: 32 random hexadecimal digits. */
  constructor(session: Session, uuid: string, serves: readonly string[], onServices: (services: readonly ServedService[]) => void) {
    this.session = session
    this.onServices = onServices
    this.said = JSON.stringify([serves, []])
    this.stream = session.open({ kind: StreamKind.control, uuid, service: '', fields: NO_FIELDS, extension: NO_FIELDS, body: encodeControl({ serves }), ended: false }, this)
  }

  /** Says what is served from now on, and which of it has an origin that is not well, if that is news. */
  say(serves: readonly string[], unhealthy: readonly string[] = []): void {
    const said = JSON.stringify([serves, unhealthy])
    if (said === this.said || this.session.ended) return
    this.said = said
    this.stream?.write(encodeControl({ serves, unhealthy }))
  }

  onHead(_fields: Fields, _extension: Fields, body: Uint8Array): void {
    this.onData(body)
  }

  onData(chunk: Uint8Array): void {
    this.stream?.consumed(chunk.length)
    try {
      for (const message of this.reader.push(chunk)) if ('services' in message) this.onServices(message.services)
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

// What an agent says of itself on its status stream, as last heard (SPEC §10.2).
import { type StatusSaid, StatusReader } from '../protocol/status.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents } from '../protocol/stream.ts'

export class AgentStatus implements StreamEvents {
  said: StatusSaid | undefined
  open = true
  private readonly reader = new StatusReader()
  private readonly stream: Stream

  /** Takes the stream that the agent opened. */
  constructor(opening: Opening, stream: Stream) {
    this.stream = stream
    stream.sendHead(NO_FIELDS, undefined, false)
    this.onData(opening.body)
  }

  onHead(_fields: Fields): void {}

  // What the reader throws ends the session: an agent that speaks garbage to us is not to be trusted with more.
  onData(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.said = this.reader.push(chunk).at(-1) ?? this.said
    this.stream.consumed(chunk.length)
  }

  // It has no more to say: what it said last is no news any more.
  onEnd(): void {
    this.said = undefined
    this.open = false
    this.stream.end()
  }
  onReset(): void {
    this.said = undefined
    this.open = false
  }
  onStop(): void {}
  onDrain(): void {}
}

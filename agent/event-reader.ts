// Reads the event stream of an sse channel: events of one line of data, as the gateway writes them (SPEC §14).
import { Gathering } from '../protocol/gathering.ts'
import { BODY_MAX_BYTES } from '../protocol/http-channel.ts'

/** The longest line: a full body in base64, and what stands before it. */
const LINE_MAX_BYTES = 4 * Math.ceil(BODY_MAX_BYTES / 3) + 16
const NEWLINE = 0x0a
const FIELD = { data: 'data: ', event: 'event: ' } as const

export class EventReader {
  private readonly onEvent: (name: string, data: string) => void
  /** Of a line: what came of it. */
  private readonly held = new Gathering()
  private name = ''
  private data: string | undefined

  constructor(onEvent: (name: string, data: string) => void) {
    this.onEvent = onEvent
  }

  /** More of the stream came. Returns what is wrong with it, if anything. */
  push(chunk: Buffer): string | undefined {
    for (let from = 0; from < chunk.length;) {
      const end = chunk.indexOf(NEWLINE, from)
      const part = chunk.subarray(from, end < 0 ? chunk.length : end)
      if (this.held.bytes + part.length > LINE_MAX_BYTES) return 'a line of an event is too long'
      const isWhole = end >= 0 && this.held.bytes === 0
      if (!isWhole) this.held.add(part)
      if (end < 0) return undefined
      const wrong = this.line(isWhole ? part : this.held.take())
      if (wrong !== undefined) return wrong
      from = end + 1
    }
    return undefined
  }

  private line(raw: Buffer): string | undefined {
    const line = raw.toString('latin1')
    if (line.startsWith(FIELD.data) && this.data === undefined) this.data = line.slice(FIELD.data.length)
    else if (line.startsWith(FIELD.event)) this.name = line.slice(FIELD.event.length)
    else if (line === '') this.dispatch()
    else return 'what came is no event of a gateway'
    return undefined
  }

  private dispatch(): void {
    const { name, data } = this
    this.name = ''
    this.data = undefined
    if (data !== undefined) this.onEvent(name, data)
  }
}

/** The bytes that strict base64 stands for; undefined for anything else. */
export function decodeBase64(text: string): Buffer | undefined {
  const body = Buffer.from(text, 'base64')
  // Node passes over what does not belong, and then there is less of it.
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  return text.length % 4 === 0 && body.length === (text.length / 4) * 3 - padding ? body : undefined
}

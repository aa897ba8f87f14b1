// Asks an agent for its figures: opens a monitor stream, takes one line, and waits for it no longer than a person would (SPEC §10.3).
import type { Clock } from '../protocol/clock.ts'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import { type FiguresSaid, FiguresReader } from '../protocol/monitor.ts'
import type { Session } from '../protocol/session.ts'
import { type Fields, NO_FIELDS, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'

/** A channel that broke is replaced within this; an agent that says nothing for so long is stopped, or drowned in work. */
const ANSWER_MS = 5_000
/** It stands for no command. */
const NO_UUID = '0'.repeat(32)
const NO_BODY = new Uint8Array(0)

/** What came of asking. `refused`: the agent does not tell its figures. `silent`: nothing came in time. `leaving`: the session takes no more streams, or is over. */
export type Reading = { readonly figures: FiguresSaid } | { readonly failed: 'refused' | 'silent' | 'leaving' }

export class AgentFigures {
  private readonly session: Session
  private readonly clock: Pick<Clock, 'later'>
  private asked: Promise<Reading> | undefined

  constructor(session: Session, clock: Pick<Clock, 'later'>) {
    this.session = session
    this.clock = clock
  }

  /** Is a stream open for it? */
  get open(): boolean {
    return this.asked !== undefined
  }

  /** Whoever asks while an answer is awaited gets that one. */
  read(): Promise<Reading> {
    this.asked ??= new Promise<Reading>((resolve) => {
      new Question(this.session, this.clock, (reading) => {
        this.asked = undefined
        resolve(reading)
      })
    })
    return this.asked
  }
}

class Question implements StreamEvents {
  private readonly stream: Stream | undefined
  private readonly reader = new FiguresReader()
  private readonly cancel: () => void
  private readonly done: (reading: Reading) => void

  constructor(session: Session, clock: Pick<Clock, 'later'>, done: (reading: Reading) => void) {
    this.done = done
    this.stream = session.open({ kind: StreamKind.monitor, uuid: NO_UUID, service: '', fields: NO_FIELDS, extension: NO_FIELDS, body: NO_BODY, ended: true }, this)
    this.cancel = clock.later(this.stream === undefined ? 0 : ANSWER_MS, () => this.over({ failed: this.stream === undefined ? 'leaving' : 'silent' }))
  }

  onHead(_fields: Fields, _extension: Fields, body: Uint8Array, ended: boolean): void {
    this.take(body, ended)
  }
  onData(chunk: Uint8Array): void {
    this.take(chunk, false)
  }
  // An end without a line before it.
  onEnd(): void {
    this.settle({ failed: 'refused' })
  }
  onReset(code: ErrorCode): void {
    this.settle({ failed: code === errors.refused ? 'refused' : 'leaving' })
  }
  onStop(): void {}
  onDrain(): void {}

  // No credit is given back: one line fits into the first, and who says more says it to nobody. What the reader throws ends the session, as on the other standing streams.
  private take(chunk: Uint8Array, ended: boolean): void {
    const [figures] = chunk.length === 0 ? [] : this.reader.push(chunk)
    if (figures === undefined) return ended ? this.onEnd() : undefined
    if (ended) this.settle({ figures })
    else this.over({ figures })
  }

  private over(reading: Reading): void {
    this.stream?.reset(errors.cancelled, true)
    this.settle(reading)
  }

  private settle(reading: Reading): void {
    this.cancel()
    this.done(reading)
  }
}

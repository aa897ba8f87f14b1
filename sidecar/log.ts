// The gateway's log: one event is one line, JSON unless a person looks on. No text from outside can make a line of its own.

export type Level = 'info' | 'warning' | 'error'
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

/** Longer texts come from a peer that means harm. */
const TEXT_MAX_CHARACTERS = 1_000
// Control bytes, and the marks that turn or hide text in a terminal.
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu
/** Lines a second about strangers, whoever sends them: a flood is told by its number. */
const STRANGERS_PER_SECOND = 10

/** What a person could not tell from a further field. */
const AMBIGUOUS = /[\s="]/

const safe = (text: string): string => (text.length > TEXT_MAX_CHARACTERS ? `${text.slice(0, TEXT_MAX_CHARACTERS)}…` : text).replace(UNSAFE, '?')

export interface LogOptions {
  /** For a person: words instead of JSON. */
  readonly words: boolean
  /** The time of day, in ISO 8601. */
  now(): string
  write(line: string): void
}

export class Log {
  private readonly options: LogOptions
  private second = ''
  private strangers = 0

  constructor(options: LogOptions) {
    this.options = options
  }

  info(event: string, fields: LogFields = {}): void {
    this.line('info', event, fields)
  }

  warning(event: string, fields: LogFields = {}): void {
    this.line('warning', event, fields)
  }

  error(event: string, fields: LogFields = {}): void {
    this.line('error', event, fields)
  }

  /** For what anybody can bring about without proof: at most so many lines a second, and then how many were left out. */
  stranger(event: string, fields: LogFields): void {
    const second = this.options.now().slice(0, 19)
    if (second !== this.second) {
      const left = this.strangers - STRANGERS_PER_SECOND
      this.second = second
      this.strangers = 0
      if (left > 0) this.line('warning', 'lines_left_out', { count: left })
    }
    if (++this.strangers <= STRANGERS_PER_SECOND) this.line('warning', event, fields)
  }

  private line(level: Level, event: string, fields: LogFields): void {
    const { words, now, write } = this.options
    const entries = Object.entries(fields).filter((entry) => entry[1] !== undefined).map(([key, value]) => [key, typeof value === 'string' ? safe(value) : value] as const)
    const inWords = (value: unknown): string => (typeof value === 'string' && AMBIGUOUS.test(value) ? JSON.stringify(value) : String(value))
    if (words) write(`${level === 'info' ? '' : `${level}: `}${event.replaceAll('_', ' ')}${entries.map(([key, value]) => `  ${key}=${inWords(value)}`).join('')}\n`)
    else write(`${JSON.stringify({ time: now(), level, event, ...Object.fromEntries(entries) })}\n`)
  }
}

// What happened, in the store: history and recent exchanges, read from the newest back, and forgotten by age and size a little at a time.
import type { SQLInputValue } from 'node:sqlite'
import type { Row, Statements } from './store.ts'

export interface Happening {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly kind: string
  /** The resource, as agents/web-1. */
  readonly subject: string
  readonly who: string
  readonly detail: Readonly<Record<string, unknown>>
}

export interface StoredHappening extends Happening {
  readonly id: number
}

export interface ExchangeFacts {
  readonly at: number
  readonly uuid: string
  readonly service: string
  readonly agent: string | null
  readonly method: string
  /** Without its query. */
  readonly path: string
  readonly status: number | null
  readonly error: string | null
  readonly waitMs: number
  readonly headMs: number | null
  readonly totalMs: number
  readonly sentBytes: number
  readonly receivedBytes: number
}

export interface StoredExchange extends ExchangeFacts {
  readonly id: number
}

/** What history and exchanges may be asked by: columns. */
export type HistoryFilter = Readonly<Partial<Record<'subject' | 'kind', string>>>
export type ExchangeFilter = Readonly<Partial<Record<'uuid' | 'service' | 'agent' | 'error', string>>>

/** How long each is kept at most, and how many bytes of it. */
export interface Kept {
  readonly history: { readonly ms: number; readonly bytes: number }
  readonly exchanges: { readonly ms: number; readonly bytes: number }
}

/** Rows that one step of forgetting deletes: some 10 ms, for whoever asks meanwhile waits. */
const FORGET_STEP_COUNT = 500

const TABLES = ['history', 'exchanges'] as const
type Table = (typeof TABLES)[number]

export class HistoryTable {
  private readonly statements: Statements

  constructor(statements: Statements) {
    this.statements = statements
  }

  /** Returns its id. */
  add({ at, kind, subject, who, detail }: Happening): number {
    return Number(this.statements.one('INSERT INTO history (at, kind, subject, who, detail) VALUES (?, ?, ?, ?, ?) RETURNING id', at, kind, subject, who, JSON.stringify(detail))!.id)
  }

  /** Returns its id. */
  addExchange(one: ExchangeFacts): number {
    const row = this.statements.one(
      `INSERT INTO exchanges (at, uuid, service, agent, method, path, status, error, wait_ms, head_ms, total_ms, sent_bytes, received_bytes)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
      one.at, one.uuid, one.service, one.agent, one.method, one.path, one.status, one.error, one.waitMs, one.headMs, one.totalMs, one.sentBytes, one.receivedBytes,
    )
    return Number(row!.id)
  }

  /** The newest before the id `before`, the newest first. */
  page(before: number, count: number, filter: HistoryFilter): StoredHappening[] {
    const { where, values } = conditions(filter)
    return this.statements.all(`SELECT * FROM history WHERE id < ?${where} ORDER BY id DESC LIMIT ?`, before, ...values, count).map(happeningOf)
  }

  /** Those after the id `after`, in their order. */
  since(after: number, count: number): StoredHappening[] {
    return this.statements.all('SELECT * FROM history WHERE id > ? ORDER BY id LIMIT ?', after, count).map(happeningOf)
  }

  /** The id of the newest; 0: there is none. */
  get last(): number {
    return Number(this.statements.one('SELECT coalesce(max(id), 0) AS id FROM history')!.id)
  }

  exchanges(before: number, count: number, filter: ExchangeFilter): StoredExchange[] {
    const { where, values } = conditions(filter)
    return this.statements.all(`SELECT * FROM exchanges WHERE id < ?${where} ORDER BY id DESC LIMIT ?`, before, ...values, count).map(exchangeOf)
  }

  /** Deletes some of what is too old or too much, looking at the oldest alone. True: there may be more of it. */
  forget(now: number, kept: Kept): boolean {
    const steps = TABLES.flatMap((table) => [this.dropOlder(table, now - kept[table].ms), this.dropLarger(table, kept[table].bytes)])
    return steps.some((count) => count >= FORGET_STEP_COUNT)
  }

  /** What it takes, as it is counted. */
  size(table: Table): number {
    return Number(this.statements.one('SELECT bytes FROM sizes WHERE name = ?', table)!.bytes)
  }

  private dropOlder(table: Table, at: number): number {
    return this.statements.run(`DELETE FROM ${table} WHERE id IN (SELECT id FROM (SELECT id, at FROM ${table} ORDER BY id LIMIT ?) WHERE at < ?)`, FORGET_STEP_COUNT, at)
  }

  // As many of the oldest as make room, and no more.
  private dropLarger(table: Table, bytes: number): number {
    const over = this.size(table) - bytes
    if (over <= 0) return 0
    const oldest = `SELECT id, size, sum(size) OVER (ORDER BY id) AS upto FROM (SELECT id, size FROM ${table} ORDER BY id LIMIT ?)`
    return this.statements.run(`DELETE FROM ${table} WHERE id IN (SELECT id FROM (${oldest}) WHERE upto - size < ?)`, FORGET_STEP_COUNT, over)
  }
}

function conditions(filter: Readonly<Partial<Record<string, string>>>): { where: string; values: SQLInputValue[] } {
  const entries = Object.entries(filter).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return { where: entries.map(([column]) => ` AND ${column} = ?`).join(''), values: entries.map(([, value]) => value) }
}

const happeningOf = (row: Row): StoredHappening => ({
  id: Number(row.id),
  at: Number(row.at),
  kind: String(row.kind),
  subject: String(row.subject),
  who: String(row.who),
  detail: JSON.parse(String(row.detail)) as Record<string, unknown>,
})

const numberOrNull = (value: unknown): number | null => (value === null ? null : Number(value))
const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null)

const exchangeOf = (row: Row): StoredExchange => ({
  id: Number(row.id),
  at: Number(row.at),
  uuid: String(row.uuid),
  service: String(row.service),
  agent: textOrNull(row.agent),
  method: String(row.method),
  path: String(row.path),
  status: numberOrNull(row.status),
  error: textOrNull(row.error),
  waitMs: Number(row.wait_ms),
  headMs: numberOrNull(row.head_ms),
  totalMs: Number(row.total_ms),
  sentBytes: Number(row.sent_bytes),
  receivedBytes: Number(row.received_bytes),
})

// The store: one SQLite file. What it returned from is on the disk; one process at a time; a store of a newer version is not touched.
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { AgentTable } from './store-agents.ts'
import { HistoryTable } from './store-history.ts'
import { MIGRATIONS } from './store-migrations.ts'
import { ServiceTable } from './store-services.ts'
import { TokenTable } from './store-tokens.ts'

/** Another process has the store open: exit code 1. */
export class StoreBusyError extends Error {
  constructor(path: string) {
    super(`${path} is in use by another process`)
    this.name = 'StoreBusyError'
  }
}

/** SQLite's codes for a file that can't be written now: the disk is full, broken, read-only, or the file is gone (sqlite.org/rescode.html). */
const UNWRITABLE: ReadonlySet<number> = new Set([8, 10, 13, 14])

/** Was it the disk that kept the store from taking a change? */
export function isUnwritable(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' && UNWRITABLE.has(error.errcode & 0xff)
}

/** A copy of the store on its way to whoever asked for it. */
export const backupName = (random: Buffer): string => `backup-${random.toString('hex')}`
const BACKUP = /^backup-[0-9a-f]+$/

export type Row = Record<string, unknown>

/** The statements of a store's tables: each is compiled once. */
export class Statements {
  private readonly db: DatabaseSync
  private readonly compiled = new Map<string, StatementSync>()

  constructor(db: DatabaseSync) {
    this.db = db
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.statement(sql).all(...values)
  }

  one(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.statement(sql).get(...values)
  }

  /** Returns how many rows it changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.statement(sql).run(...values).changes)
  }

  private statement(sql: string): StatementSync {
    let statement = this.compiled.get(sql)
    if (statement === undefined) this.compiled.set(sql, (statement = this.db.prepare(sql)))
    return statement
  }
}

export class Store {
  readonly folder: string
  readonly agents: AgentTable
  readonly services: ServiceTable
  readonly tokens: TokenTable
  readonly history: HistoryTable
  private readonly db: DatabaseSync
  private readonly statements: Statements

  /** Opens `stateDir`/postern.db, makes it if it is not there. Throws {@link StoreBusyError}, and an Error for a store of a newer version. */
  constructor(stateDir: string) {
    this.folder = stateDir
    mkdirSync(stateDir, { recursive: true, mode: 0o700 })
    const path = join(stateDir, 'postern.db')
    // Made here, for SQLite would make it for all to read, and its log with the mode that the file has by then.
    closeSync(openSync(path, 'a', 0o600))
    chmodSync(path, 0o600)
    this.db = new DatabaseSync(path)
    try {
      // Exclusive before WAL: the lock is then held as long as the process lives, and no shared-memory file is needed.
      // What a statement would take back lies in memory: as a file in /var/tmp it is 15 times what goes to the log, and what is in the store lies there.
      this.db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; BEGIN IMMEDIATE; COMMIT')
      this.migrate(path)
    } catch (error) {
      this.db.close()
      throw error instanceof Error && /locked|busy/.test(error.message) ? new StoreBusyError(path) : error
    }
    // What a process that was killed during a backup left: nobody else would look for it.
    for (const name of readdirSync(stateDir)) if (BACKUP.test(name)) rmSync(join(stateDir, name), { force: true })
    this.statements = new Statements(this.db)
    this.agents = new AgentTable(this.statements)
    this.services = new ServiceTable(this.statements)
    this.tokens = new TokenTable(this.statements)
    this.history = new HistoryTable(this.statements)
  }

  close(): void {
    this.db.close()
  }

  /** The value under `key`, made by `make` and kept if there is none. */
  setting(key: string, make: () => string): string {
    const row = this.statements.one('SELECT value FROM meta WHERE key = ?', key)
    if (row !== undefined) return String(row.value)
    const value = make()
    this.putSetting(key, value)
    return value
  }

  putSetting(key: string, value: string): void {
    this.statements.run('INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value', key, value)
  }

  /** All of what `change` does, or nothing. */
  whole<T>(change: () => T): T {
    this.db.exec('BEGIN IMMEDIATE')
    try {
      const result = change()
      this.db.exec('COMMIT')
      return result
    } catch (error) {
      // On a full disk SQLite has rolled back itself.
      if (this.db.isTransaction) this.db.exec('ROLLBACK')
      throw error
    }
  }

  /** What `change` returns or throws, and nothing of it has happened. */
  rehearse<T>(change: () => T): T {
    this.db.exec('BEGIN IMMEDIATE')
    try {
      return change()
    } finally {
      if (this.db.isTransaction) this.db.exec('ROLLBACK')
    }
  }

  /** Writes all of it, as it is now, to a new file at `path`, for its owner alone. */
  backup(path: string): void {
    if (existsSync(path)) throw new Error(`${path} is there already`)
    // Made here for its mode; SQLite takes an empty file for a new one.
    closeSync(openSync(path, 'wx', 0o600))
    this.statements.run('VACUUM INTO ?', path)
  }

  private migrate(path: string): void {
    const version = Number(this.db.prepare('PRAGMA user_version').get()?.user_version)
    if (version > MIGRATIONS.length) throw new Error(`${path} was written by a newer version (schema ${String(version)}, this one knows ${String(MIGRATIONS.length)})`)
    for (let number = version; number < MIGRATIONS.length; number++) {
      this.whole(() => this.db.exec(`${MIGRATIONS[number]!}; PRAGMA user_version = ${String(number + 1)}`))
    }
  }
}

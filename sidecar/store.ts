// The store: agents, services and the gateway's own setup in one SQLite file. What it returned from is on the disk; one process at a time.
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { AgentEntry, ServiceEntry } from './directory.ts'

/** Each brings the schema from its index to the next number; those that were released never change. */
const MIGRATIONS = [
  `CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
   CREATE TABLE agents (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
   CREATE TABLE services (name TEXT PRIMARY KEY, hosts TEXT NOT NULL, prefixes TEXT NOT NULL, conceal INTEGER NOT NULL, trailers INTEGER NOT NULL) STRICT;
   CREATE TABLE agent_services (agent TEXT NOT NULL REFERENCES agents(id) ON DELETE CASCADE, service TEXT NOT NULL REFERENCES services(name), PRIMARY KEY (agent, service)) STRICT;
   CREATE INDEX agent_services_by_service ON agent_services(service);`,
] as const

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

export class Store {
  private readonly db: DatabaseSync

  /** Opens `stateDir`/postern.db, makes it if it is not there. Throws {@link StoreBusyError}, and an Error for a store of a newer version. */
  constructor(stateDir: string) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 })
    const path = join(stateDir, 'postern.db')
    // Made here, for SQLite would make it for all to read, and its log with the mode that the file has by then.
    closeSync(openSync(path, 'a', 0o600))
    chmodSync(path, 0o600)
    this.db = new DatabaseSync(path)
    try {
      // Exclusive before WAL: the lock is then held as long as the process lives, and no shared-memory file is needed.
      this.db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; COMMIT')
      this.migrate(path)
    } catch (error) {
      this.db.close()
      throw error instanceof Error && /locked|busy/.test(error.message) ? new StoreBusyError(path) : error
    }
  }

  close(): void {
    this.db.close()
  }

  /** The value under `key`, made by `make` and kept if there is none. */
  setting(key: string, make: () => string): string {
    const row = this.db.prepare('SELECT value FROM meta WHERE key = ?').get(key)
    if (row !== undefined) return String(row.value)
    const value = make()
    this.db.prepare('INSERT INTO meta (key, value) VALUES (?, ?)').run(key, value)
    return value
  }

  agents(): AgentEntry[] {
    const services = new Map<string, string[]>()
    for (const row of this.db.prepare('SELECT agent, service FROM agent_services ORDER BY agent, service').all()) {
      const agent = String(row.agent)
      const known = services.get(agent)
      if (known === undefined) services.set(agent, [String(row.service)])
      else known.push(String(row.service))
    }
    return this.db.prepare('SELECT id, record FROM agents ORDER BY id').all().map((row) => {
      const id = String(row.id)
      return { id, record: String(row.record), services: services.get(id) ?? [] }
    })
  }

  agent(id: string): AgentEntry | undefined {
    const row = this.db.prepare('SELECT record FROM agents WHERE id = ?').get(id)
    if (row === undefined) return undefined
    const services = this.db.prepare('SELECT service FROM agent_services WHERE agent = ? ORDER BY service').all(id).map(({ service }) => String(service))
    return { id, record: String(row.record), services }
  }

  services(): ServiceEntry[] {
    return this.db.prepare('SELECT name, hosts, prefixes, conceal, trailers FROM services ORDER BY name').all().map(serviceOf)
  }

  service(name: string): ServiceEntry | undefined {
    const row = this.db.prepare('SELECT name, hosts, prefixes, conceal, trailers FROM services WHERE name = ?').get(name)
    return row === undefined ? undefined : serviceOf(row)
  }

  /** Makes or replaces an agent with all it may serve. Every service must be there. */
  putAgent(agent: AgentEntry): void {
    this.whole(() => {
      this.db.prepare('INSERT INTO agents (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record').run(agent.id, agent.record)
      this.db.prepare('DELETE FROM agent_services WHERE agent = ?').run(agent.id)
      const allow = this.db.prepare('INSERT INTO agent_services (agent, service) VALUES (?, ?)')
      for (const service of agent.services) allow.run(agent.id, service)
    })
  }

  removeAgent(id: string): void {
    this.db.prepare('DELETE FROM agents WHERE id = ?').run(id)
  }

  putService(service: ServiceEntry): void {
    this.db
      .prepare(
        `INSERT INTO services (name, hosts, prefixes, conceal, trailers) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET hosts = excluded.hosts, prefixes = excluded.prefixes, conceal = excluded.conceal, trailers = excluded.trailers`,
      )
      .run(service.name, JSON.stringify(service.hosts), JSON.stringify(service.prefixes), service.conceal ? 1 : 0, service.trailers ? 1 : 0)
  }

  /** Throws while an agent is allowed it (a foreign key). */
  removeService(name: string): void {
    this.db.prepare('DELETE FROM services WHERE name = ?').run(name)
  }

  private migrate(path: string): void {
    const version = Number(this.db.prepare('PRAGMA user_version').get()?.user_version)
    if (version > MIGRATIONS.length) throw new Error(`${path} was written by a newer version (schema ${String(version)}, this one knows ${String(MIGRATIONS.length)})`)
    for (let number = version; number < MIGRATIONS.length; number++) {
      this.whole(() => this.db.exec(`${MIGRATIONS[number]!}; PRAGMA user_version = ${String(number + 1)}`))
    }
  }

  private whole(change: () => void): void {
    this.db.exec('BEGIN IMMEDIATE')
    try {
      change()
      this.db.exec('COMMIT')
    } catch (error) {
      // On a full disk SQLite has rolled back itself.
      if (this.db.isTransaction) this.db.exec('ROLLBACK')
      throw error
    }
  }
}

const serviceOf = (row: Record<string, unknown>): ServiceEntry => ({
  name: String(row.name),
  hosts: JSON.parse(String(row.hosts)) as string[],
  prefixes: JSON.parse(String(row.prefixes)) as string[],
  conceal: row.conceal === 1,
  trailers: row.trailers === 1,
})

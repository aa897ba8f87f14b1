// The services in the store, and the places (hostname and prefix) that each has: no place is another's.
import type { ServicePolicy } from './policy.ts'
import type { Row, Statements } from './store.ts'

export interface StoredService {
  readonly name: string
  readonly hosts: readonly string[]
  readonly prefixes: readonly string[]
  readonly conceal: boolean
  readonly trailers: boolean
  readonly labels: readonly string[]
  readonly origin: string | null
  readonly policy: ServicePolicy
  /** Milliseconds since 1970. */
  readonly createdAt: number | null
}

export interface Place {
  readonly host: string
  readonly prefix: string
  readonly service: string
}

const COLUMNS = 'name, hosts, prefixes, conceal, trailers, labels, origin, policy, created_at'

export class ServiceTable {
  private readonly statements: Statements

  constructor(statements: Statements) {
    this.statements = statements
  }

  all(): StoredService[] {
    return this.statements.all(`SELECT ${COLUMNS} FROM services ORDER BY name`).map(serviceOf)
  }

  page(after: string, count: number): StoredService[] {
    return this.statements.all(`SELECT ${COLUMNS} FROM services WHERE name > ? ORDER BY name LIMIT ?`, after, count).map(serviceOf)
  }

  one(name: string): StoredService | undefined {
    const row = this.statements.one(`SELECT ${COLUMNS} FROM services WHERE name = ?`, name)
    return row === undefined ? undefined : serviceOf(row)
  }

  /** Makes or replaces a service. Throws if a place of it is another's (a primary key). To be called within whole(). */
  put(service: StoredService): void {
    const { name, hosts, prefixes, conceal, trailers, labels, origin, policy, createdAt } = service
    this.statements.run(
      `INSERT INTO services (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET hosts = excluded.hosts, prefixes = excluded.prefixes, conceal = excluded.conceal,
       trailers = excluded.trailers, labels = excluded.labels, origin = excluded.origin, policy = excluded.policy, created_at = excluded.created_at`,
      name, JSON.stringify(hosts), JSON.stringify(prefixes), conceal ? 1 : 0, trailers ? 1 : 0, JSON.stringify(labels), origin, JSON.stringify(policy), createdAt,
    )
    this.statements.run('DELETE FROM places WHERE service = ?', name)
    for (const host of hosts) for (const prefix of prefixes) this.statements.run('INSERT INTO places (host, prefix, service) VALUES (?, ?, ?)', host, prefix, name)
  }

  /** Gives up its places: another may take them before it is put anew, or removed. To be called within whole(). */
  vacate(name: string): void {
    this.statements.run('DELETE FROM places WHERE service = ?', name)
  }

  /** Throws while an agent is named for it (a foreign key). */
  remove(name: string): void {
    this.statements.run('DELETE FROM services WHERE name = ?', name)
  }

  /** The places of a hostname. */
  placesOf(host: string): Place[] {
    return this.statements.all('SELECT host, prefix, service FROM places WHERE host = ? ORDER BY prefix', host).map(placeOf)
  }

  /** Places after that one, by hostname and prefix. */
  places(host: string, prefix: string, count: number): Place[] {
    return this.statements.all('SELECT host, prefix, service FROM places WHERE (host, prefix) > (?, ?) ORDER BY host, prefix LIMIT ?', host, prefix, count).map(placeOf)
  }
}

const placeOf = (row: Row): Place => ({ host: String(row.host), prefix: String(row.prefix), service: String(row.service) })

const serviceOf = (row: Row): StoredService => ({
  name: String(row.name),
  hosts: JSON.parse(String(row.hosts)) as string[],
  prefixes: JSON.parse(String(row.prefixes)) as string[],
  conceal: row.conceal === 1,
  trailers: row.trailers === 1,
  labels: JSON.parse(String(row.labels)) as string[],
  origin: typeof row.origin === 'string' ? row.origin : null,
  policy: JSON.parse(String(row.policy)) as ServicePolicy,
  createdAt: row.created_at === null ? null : Number(row.created_at),
})

// The tokens in the store, by their SHA-256 alone, and the keys of creations that may be asked for twice.
import type { Scope } from './control-schemas.ts'
import type { Row, Statements } from './store.ts'

export interface StoredToken {
  readonly id: string
  readonly name: string
  readonly scopes: readonly Scope[]
  readonly createdAt: number
  readonly expiresAt: number | null
}

/** A creation that carried an Idempotency-Key. */
export interface Creation {
  readonly key: string
  /** SHA-256 of what was asked. */
  readonly request: Uint8Array
  readonly location: string
  readonly at: number
}

const COLUMNS = 'id, name, scopes, created_at, expires_at'

export class TokenTable {
  private readonly statements: Statements

  constructor(statements: Statements) {
    this.statements = statements
  }

  page(after: string, count: number): StoredToken[] {
    return this.statements.all(`SELECT ${COLUMNS} FROM tokens WHERE id > ? ORDER BY id LIMIT ?`, after, count).map(tokenOf)
  }

  one(id: string): StoredToken | undefined {
    const row = this.statements.one(`SELECT ${COLUMNS} FROM tokens WHERE id = ?`, id)
    return row === undefined ? undefined : tokenOf(row)
  }

  byName(name: string): StoredToken | undefined {
    const row = this.statements.one(`SELECT ${COLUMNS} FROM tokens WHERE name = ?`, name)
    return row === undefined ? undefined : tokenOf(row)
  }

  /** The token whose secret has this SHA-256. The index compares hashes, of which nobody knows the beginning. */
  byHash(hash: Uint8Array): StoredToken | undefined {
    const row = this.statements.one(`SELECT ${COLUMNS} FROM tokens WHERE hash = ?`, hash)
    return row === undefined ? undefined : tokenOf(row)
  }

  add(token: StoredToken, hash: Uint8Array): void {
    const { id, name, scopes, createdAt, expiresAt } = token
    this.statements.run('INSERT INTO tokens (id, name, scopes, created_at, expires_at, hash) VALUES (?, ?, ?, ?, ?, ?)', id, name, JSON.stringify(scopes), createdAt, expiresAt, hash)
  }

  remove(id: string): void {
    this.statements.run('DELETE FROM tokens WHERE id = ?', id)
  }

  creation(key: string): Creation | undefined {
    const row = this.statements.one('SELECT key, request, location, at FROM creations WHERE key = ?', key)
    return row === undefined ? undefined : { key, request: row.request as Uint8Array, location: String(row.location), at: Number(row.at) }
  }

  addCreation({ key, request, location, at }: Creation): void {
    this.statements.run('INSERT INTO creations (key, request, location, at) VALUES (?, ?, ?, ?)', key, request, location, at)
  }

  /** Forgets creations older than that. */
  forgetCreations(before: number): void {
    this.statements.run('DELETE FROM creations WHERE at < ?', before)
  }
}

const tokenOf = (row: Row): StoredToken => ({
  id: String(row.id),
  name: String(row.name),
  scopes: JSON.parse(String(row.scopes)) as Scope[],
  createdAt: Number(row.created_at),
  expiresAt: row.expires_at === null ? null : Number(row.expires_at),
})

// The agents in the store: who they are, what they may serve, and whether they may come in.
import type { AgentSettings } from './control-schemas.ts'
import type { Row, Statements } from './store.ts'

export interface StoredAgent {
  readonly id: string
  /** Its OPAQUE registration record. */
  readonly record: string
  /** The services that it is named for. */
  readonly services: readonly string[]
  readonly labels: readonly string[]
  readonly settings: AgentSettings
  readonly disabled: boolean
  /** Its secret is worth nothing until there is a new one. */
  readonly revoked: boolean
  /** Milliseconds since 1970, as all times of the store. */
  readonly expiresAt: number | null
  readonly createdAt: number | null
  readonly rotatedAt: number | null
}

const COLUMNS = 'id, record, labels, settings, disabled, revoked, expires_at, created_at, rotated_at'

export class AgentTable {
  private readonly statements: Statements

  constructor(statements: Statements) {
    this.statements = statements
  }

  all(): StoredAgent[] {
    const services = new Map<string, string[]>()
    for (const row of this.statements.all('SELECT agent, service FROM agent_services ORDER BY agent, service')) {
      const agent = String(row.agent)
      const known = services.get(agent)
      if (known === undefined) services.set(agent, [String(row.service)])
      else known.push(String(row.service))
    }
    return this.statements.all(`SELECT ${COLUMNS} FROM agents ORDER BY id`).map((row) => agentOf(row, services.get(String(row.id)) ?? []))
  }

  /** Those after `after` by id, `count` at most; with `service` those that are named for it. */
  page(after: string, count: number, service?: string): StoredAgent[] {
    const rows =
      service === undefined
        ? this.statements.all(`SELECT ${COLUMNS} FROM agents WHERE id > ? ORDER BY id LIMIT ?`, after, count)
        : this.statements.all(`SELECT ${COLUMNS} FROM agent_services JOIN agents ON id = agent WHERE service = ? AND agent > ? ORDER BY agent LIMIT ?`, service, after, count)
    return rows.map((row) => agentOf(row, this.servicesOf(String(row.id))))
  }

  one(id: string): StoredAgent | undefined {
    const row = this.statements.one(`SELECT ${COLUMNS} FROM agents WHERE id = ?`, id)
    return row === undefined ? undefined : agentOf(row, this.servicesOf(id))
  }

  /** Makes or replaces an agent. Every service must be there (a foreign key). To be called within whole(). */
  put(agent: StoredAgent): void {
    this.statements.run(
      `INSERT INTO agents (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record, labels = excluded.labels, settings = excluded.settings,
       disabled = excluded.disabled, revoked = excluded.revoked, expires_at = excluded.expires_at, created_at = excluded.created_at, rotated_at = excluded.rotated_at`,
      agent.id, agent.record, JSON.stringify(agent.labels), JSON.stringify(agent.settings), agent.disabled ? 1 : 0, agent.revoked ? 1 : 0, agent.expiresAt, agent.createdAt, agent.rotatedAt,
    )
    this.statements.run('DELETE FROM agent_services WHERE agent = ?', agent.id)
    for (const service of agent.services) this.statements.run('INSERT INTO agent_services (agent, service) VALUES (?, ?)', agent.id, service)
  }

  remove(id: string): void {
    this.statements.run('DELETE FROM agents WHERE id = ?', id)
  }

  /** Ids of those that are named for a service, `count` at most. */
  namedFor(service: string, count: number): string[] {
    return this.statements.all('SELECT agent FROM agent_services WHERE service = ? ORDER BY agent LIMIT ?', service, count).map(({ agent }) => String(agent))
  }

  /** Ids of those whose time ended after `from` and not after `to`. */
  expiredBetween(from: number, to: number): string[] {
    return this.statements.all('SELECT id FROM agents WHERE expires_at > ? AND expires_at <= ?', from, to).map(({ id }) => String(id))
  }

  private servicesOf(id: string): string[] {
    return this.statements.all('SELECT service FROM agent_services WHERE agent = ? ORDER BY service', id).map(({ service }) => String(service))
  }
}

const numberOrNull = (value: unknown): number | null => (value === null ? null : Number(value))

const agentOf = (row: Row, services: readonly string[]): StoredAgent => ({
  id: String(row.id),
  record: String(row.record),
  services,
  labels: JSON.parse(String(row.labels)) as string[],
  settings: JSON.parse(String(row.settings)) as AgentSettings,
  disabled: row.disabled === 1,
  revoked: row.revoked === 1,
  expiresAt: numberOrNull(row.expires_at),
  createdAt: numberOrNull(row.created_at),
  rotatedAt: numberOrNull(row.rotated_at),
})

// Which services somebody serves, and whether their origins are well: told by who knows the sessions to whoever publishes routes.

/** `up`: a session serves it. `unhealthy`: sessions serve it, and each says that its origin is not well. `away`: nobody does. */
export type Presence = 'up' | 'unhealthy' | 'away'

export interface PresenceListener {
  /** The first session that serves it came, the last one (its grace included) went, or the health of all of them changed. */
  presenceChanged(service: string, presence: Presence): void
}

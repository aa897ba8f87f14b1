// What an agent is offered when it logs in: what is set for it, and where nothing is, the gateway's own configuration (SPEC §3).
import type { PushedSettings, ServedService } from '../protocol/control.ts'
import type { Environment } from '../protocol/environment.ts'
import type { Hello, Policy, Settings, Terms } from '../protocol/messages.ts'
import type { AgentSettings } from './control-schemas.ts'

export interface Offered {
  readonly policy: Policy
  readonly lanes: number
  readonly settings: Settings
  readonly terms: Terms
}

/** The gateway's own. */
export interface Configured extends Omit<Offered, 'terms'> {
  readonly environment: Pick<Environment, 'times'>
  readonly channels: readonly string[]
}

export function offer(hello: Pick<Hello, 'policies'>, configured: Configured, set: AgentSettings, services: readonly ServedService[]): Offered {
  const { policy, lanes, settings, channels, environment } = configured
  const { heartbeatMs, deadAfterMs, graceMs } = environment.times
  const beat = set.heartbeat_ms ?? heartbeatMs
  return {
    policy: set.encryption === undefined ? policy : sealed(hello, set.encryption),
    lanes,
    settings: { firstCredit: set.first_credit_bytes ?? settings.firstCredit, maxStreams: set.streams_max_count ?? settings.maxStreams },
    terms: {
      services,
      heartbeat_ms: beat,
      // Whoever answers every beat must not be taken for dead.
      dead_after_ms: Math.max(set.dead_after_ms ?? deadAfterMs, 2 * beat),
      grace_ms: set.grace_ms ?? graceMs,
      channels: set.channels === undefined ? channels : channels.filter((kind) => (set.channels as readonly string[]).includes(kind)),
      settings: pushedOf(set),
    },
  }
}

/** What an agent is told of what is set for it. */
export const pushedOf = ({ channels, connections, tls }: AgentSettings): PushedSettings => ({ channels, connections, tls })

/** What is set must keep no agent out: one that does not take payload unsealed has it sealed. */
const sealed = ({ policies }: Pick<Hello, 'policies'>, wanted: Policy): Policy => (policies.includes(wanted) ? wanted : 'always')

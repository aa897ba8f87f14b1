// What an agent is offered when it logs in, and told of later: what is set for it, and where nothing is, the gateway's own configuration (SPEC §3).
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
  const { policy, lanes, channels } = configured
  return {
    policy: set.encryption === undefined ? policy : sealed(hello, set.encryption),
    lanes,
    settings: streamsOf(configured, set),
    terms: {
      services,
      ...timesOf(configured, set),
      channels: set.channels === undefined ? channels : channels.filter((kind) => (set.channels as readonly string[]).includes(kind)),
      settings: pushedOf(configured, set),
    },
  }
}

/** What the gateway takes of an agent's streams. */
export function streamsOf({ settings }: Pick<Configured, 'settings'>, set: AgentSettings): Settings {
  return { firstCredit: set.first_credit_bytes ?? settings.firstCredit, maxStreams: set.streams_max_count ?? settings.maxStreams }
}

/** What an agent is told of what is set for it. */
export function pushedOf(configured: Pick<Configured, 'environment' | 'policy'>, set: AgentSettings): PushedSettings & ReturnType<typeof timesOf> {
  const { channels, connections, tls, encryption = configured.policy } = set
  return { channels, connections, tls, ...timesOf(configured, set), encryption }
}

function timesOf({ environment }: Pick<Configured, 'environment'>, set: AgentSettings): Pick<Terms, 'heartbeat_ms' | 'dead_after_ms' | 'grace_ms'> {
  const { heartbeatMs, deadAfterMs, graceMs } = environment.times
  const beat = set.heartbeat_ms ?? heartbeatMs
  // Whoever answers every beat must not be taken for dead.
  return { heartbeat_ms: beat, dead_after_ms: Math.max(set.dead_after_ms ?? deadAfterMs, 2 * beat), grace_ms: set.grace_ms ?? graceMs }
}

/** As many of them, from the first, as a list of so many bytes holds. */
export function fitting(services: readonly ServedService[], maxBytes: number): readonly ServedService[] {
  let bytes = 2
  const past = services.findIndex((service) => (bytes += Buffer.byteLength(JSON.stringify(service)) + 1) > maxBytes)
  return past < 0 ? services : services.slice(0, past)
}

/** What is set must keep no agent out: one that does not take payload unsealed has it sealed. */
const sealed = ({ policies }: Pick<Hello, 'policies'>, wanted: Policy): Policy => (policies.includes(wanted) ? wanted : 'always')

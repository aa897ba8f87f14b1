// Logging in, as an agent or a diagnosis does: what the join string says, what this process wants, and whether trying again is of any use.
import type { Carrier } from '../protocol/channel.ts'
import type { Environment } from '../protocol/environment.ts'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Join } from '../protocol/join.ts'
import { FIRST_CREDIT_BYTES, STREAMS_MAX_COUNT } from '../protocol/limits.ts'
import { login } from '../protocol/login.ts'
import type { Policy } from '../protocol/messages.ts'
import type { Refusal, Session } from '../protocol/session.ts'

/** Refusals that trying again does not change. */
export const FINAL: ReadonlySet<ErrorCode> = new Set([errors.unauthenticated, errors.revoked, errors.unsupported_version, errors.policy_mismatch])

export interface Entrant {
  readonly join: Join
  /** 16 bytes, random per process. */
  readonly instance: Buffer
  /** `never`: the gateway may have payload go unsealed. */
  readonly policy: Policy | undefined
  /** Lanes wished. */
  readonly lanes: number
}

/** Logs in over a fresh carrier. `done` is called once, with a session that rides on it or why there is none. */
export function enter(carrier: Carrier, { join, instance, policy, lanes }: Entrant, environment: Environment, done: (outcome: Session | Refusal) => void): void {
  const settings = { firstCredit: FIRST_CREDIT_BYTES, maxStreams: STREAMS_MAX_COUNT }
  const policies: Policy[] = policy === 'never' ? ['always', 'never'] : ['always']
  login(carrier, { agentId: join.id, secret: join.secret, gatewayKey: join.key, instance, policies, lanes, settings }, environment, done)
}

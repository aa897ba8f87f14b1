// The agent's half of the handshake: proves its secret, checks the gateway's, ends in a session (SPEC §3, §4).
import { blame, type Carrier } from './channel.ts'
import type { PushedSettings } from './control.ts'
import type { Environment, Times } from './environment.ts'
import { errors, PosternError } from './errors.ts'
import { GRACE_MAX_MS, HANDSHAKE_MESSAGE_MAX_BYTES, HEARTBEAT_MAX_MS, HEARTBEAT_MIN_MS } from './limits.ts'
import { decodeChallenge, decodeClose, decodeWelcomeInside, encodeClose, encodeHello, encodeProof, Kind, type Policy, type Settings, VERSION } from './messages.ts'
import { clientFinish, clientStart } from './opaque.ts'
import { openOnce, sessionSecret, welcomeKey } from './seal.ts'
import { type Refusal, Session } from './session.ts'

export interface LoginOptions {
  readonly agentId: string
  readonly secret: string
  /** The gateway's OPAQUE public key (base64url), from the join string. */
  readonly gatewayKey: string
  /** 16 bytes, random per process. */
  readonly instance: Buffer
  readonly policies: readonly Policy[]
  readonly lanes: number
  readonly settings: Settings
}

/** Logs in over a fresh carrier. `done` is called once: with a session that rides on the carrier, or with the reason why there is none (the carrier is closed then). */
export function login(carrier: Carrier, options: LoginOptions, environment: Environment, done: (outcome: Session | Refusal) => void): void {
  const { state, ke1 } = clientStart(options.secret)
  const hello = encodeHello({ versionMin: VERSION, versionMax: VERSION, features: 0, ...options, ke1: Buffer.from(ke1) })
  let step: 'challenge' | 'welcome' | 'over' = 'challenge'
  let sessionKey: Uint8Array
  let firstThree: Buffer[]

  const cancelTimeout = environment.clock.later(environment.times.handshakeMs, () => fail(new PosternError(errors.handshake_timeout, errors.handshake_timeout.says)))

  const over = (outcome: Session | Refusal): void => {
    step = 'over'
    cancelTimeout()
    done(outcome)
  }
  const fail = (error: unknown): void => {
    if (step === 'over') return
    const refusal = blame(error)
    carrier.send(encodeClose(refusal.code, refusal.code.says))
    carrier.close()
    over(refusal)
  }

  const takeChallenge = (message: Buffer): void => {
    const { version, features, ke2 } = decodeChallenge(message)
    if (version !== VERSION || features !== 0) throw new PosternError(errors.unsupported_version, `the gateway chose version ${String(version)}`)
    const proved = clientFinish(options.secret, state, ke2, options.gatewayKey)
    if (proved === undefined) throw new PosternError(errors.unauthenticated, 'the gateway does not know this agent and secret, or is not the one that the join string names')
    const proof = encodeProof(proved.ke3)
    sessionKey = proved.sessionKey
    firstThree = [hello, Buffer.from(message), proof]
    step = 'welcome'
    carrier.send(proof)
  }

  const takeWelcome = (message: Buffer): Session => {
    const inside = openOnce(welcomeKey(sessionKey, firstThree), message.subarray(1))
    if (inside === undefined) throw new PosternError(errors.protocol_error, 'the welcome was changed on the way')
    const welcome = decodeWelcomeInside(inside)
    if (!options.policies.includes(welcome.policy)) throw new PosternError(errors.policy_mismatch, `the gateway wants payload sealed: ${welcome.policy}`)
    if (welcome.lanes > options.lanes) throw new PosternError(errors.protocol_error, 'more lanes than were asked for')
    const session = new Session(
      {
        role: 'agent',
        sessionId: Buffer.from(welcome.sessionId),
        secret: sessionSecret(sessionKey, [...firstThree, message]),
        policy: welcome.policy,
        lanes: welcome.lanes,
        settings: options.settings,
        peerSettings: welcome.settings,
        terms: welcome.terms,
      },
      { ...environment, times: timesWithin(welcome.terms, environment.times) },
    )
    session.begin(carrier)
    return session
  }

  carrier.onMessage = (message) => {
    if (step === 'over') return
    let session: Session | undefined
    try {
      const kind = message[0]
      if (kind === Kind.close) {
        const { code, detail } = decodeClose(message)
        carrier.close()
        over({ code, detail: detail === '' ? code.says : detail })
      } else if (kind === Kind.challenge && step === 'challenge' && message.length <= HANDSHAKE_MESSAGE_MAX_BYTES) takeChallenge(message)
      else if (kind === Kind.welcome && step === 'welcome') session = takeWelcome(message)
      else throw new PosternError(errors.protocol_error, `a message of kind ${String(kind)} where the ${step} was next`)
    } catch (error) {
      fail(error)
    }
    // What its owner throws is no fault of the handshake's, and must not be lost as one.
    if (session !== undefined) over(session)
  }
  carrier.onClosed = (reason) => {
    if (step !== 'over') over({ code: errors.agent_lost, detail: reason })
  }
  carrier.send(hello)
}

/** The gateway says how often and how long, within what makes sense for an agent: it can neither keep it busy nor deaf. */
export function timesWithin(terms: Pick<PushedSettings, 'heartbeat_ms' | 'dead_after_ms' | 'grace_ms'>, own: Times): Times {
  const within = (ms: unknown, least: number, most: number, otherwise: number): number => (typeof ms === 'number' ? Math.min(Math.max(ms, least), most) : otherwise)
  const heartbeatMs = within(terms.heartbeat_ms, HEARTBEAT_MIN_MS, HEARTBEAT_MAX_MS, own.heartbeatMs)
  return {
    heartbeatMs,
    // A gateway that answers every beat must not be taken for dead.
    deadAfterMs: Math.max(2 * heartbeatMs, within(terms.dead_after_ms, 0, 3 * HEARTBEAT_MAX_MS, own.deadAfterMs)),
    graceMs: within(terms.grace_ms, 0, GRACE_MAX_MS, own.graceMs),
    handshakeMs: own.handshakeMs,
  }
}

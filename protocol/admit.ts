// The gateway's half of what begins a channel: a login that ends in a session, or one more channel of a session (SPEC §3, §5).
import { blame, type Carrier } from './channel.ts'
import type { Environment, Times } from './environment.ts'
import { type ErrorCode, errors, PosternError } from './errors.ts'
import { HANDSHAKE_MESSAGE_MAX_BYTES, LANES_MAX_COUNT, PROBES_MAX_COUNT } from './limits.ts'
import {
  decodeBeat,
  decodeChannelOpen,
  decodeClose,
  decodeHello,
  decodeProof,
  encodeBeat,
  encodeChallenge,
  encodeClose,
  encodeWelcomeInside,
  type Hello,
  Kind,
  type Policy,
  SESSION_ID_BYTES,
  type Settings,
  type Terms,
  VERSION,
} from './messages.ts'
import { serverFinish, serverStart } from './opaque.ts'
import { sealOnce, sessionSecret, welcomeKey } from './seal.ts'
import { Session } from './session.ts'

/** What a gateway knows of its agents and sessions. */
export interface Gatekeeper {
  /** The OPAQUE setup of this gateway. */
  readonly serverSetup: string
  /** A record whose secret nobody has: who has none of their own is challenged by it, so that they cost and look the same. */
  readonly decoyRecord: string
  /** The registration record of an agent, null if it is unknown or may not come in. */
  recordOf(agentId: string): string | null
  /** Asked after a right proof against `record`: what the session is to be like, or why there is none. */
  terms(hello: Hello, record: string | null): { readonly policy: Policy; readonly lanes: number; readonly settings: Settings; readonly terms: Terms } | ErrorCode
  sessionById(id: string): Session | undefined
  /** A session began: set its `events` now. */
  onSession(session: Session, hello: Hello, carrier: Carrier): void
  /** One more channel of a session was taken. */
  onChannel(session: Session, carrier: Carrier): void
  /** A channel ended before it belonged to a session. For log and history; `agentId` is whom its HELLO named, if there was one. */
  onRefused(carrier: Carrier, code: ErrorCode, detail: string, agentId: string | undefined): void
}

/** One try to log in. */
export interface Attempt {
  /** The secret was right. */
  right(): void
  /** It came to nothing, or nobody waits for it any more. */
  over(): void
}

/** Who may try a secret, and when: a challenge is work that anybody can ask for. */
export interface Attempts {
  /** Calls `challenge` later, when this try may go on, or `refuse`, if it may not. */
  begin(carrier: Carrier, agentId: string, challenge: () => void, refuse: () => void): Attempt
}

/** Takes a fresh carrier and answers what it begins with. Until it belongs to a session its messages are small and it has `handshakeMs`. */
export function admit(carrier: Carrier, gatekeeper: Gatekeeper, attempts: Attempts, environment: Environment): void {
  let step: 'first' | 'queue' | 'proof' | 'over' = 'first'
  let attempt: Attempt | undefined
  let hello: Hello
  let agentId: string | undefined
  let record: string | null
  let opaqueState: string
  let firstTwo: Buffer[]

  const cancelTimeout = environment.clock.later(environment.times.handshakeMs, () => refuse(errors.handshake_timeout, errors.handshake_timeout.says))

  const over = (): void => {
    step = 'over'
    cancelTimeout()
    attempt?.over()
  }
  const refuse = (code: ErrorCode, detail: string): void => {
    if (step === 'over') return
    over()
    carrier.send(encodeClose(code, code === errors.protocol_error ? detail : code.says))
    carrier.close()
    gatekeeper.onRefused(carrier, code, detail, agentId)
  }

  let probes = 0
  const takeProbe = (message: Buffer): void => {
    const { answer, number } = decodeBeat(message)
    if (answer || ++probes > PROBES_MAX_COUNT) throw new PosternError(errors.protocol_error, answer ? 'an answer to no BEAT of ours' : 'too many BEATs before HELLO')
    carrier.send(encodeBeat(true, number))
  }

  const takeHello = (message: Buffer): void => {
    // A copy: HELLO's buffer is the carrier's, and the transcript is needed two messages later.
    const kept = Buffer.from(message)
    hello = decodeHello(kept)
    agentId = hello.agentId
    if (hello.versionMin > VERSION || hello.versionMax < VERSION) return refuse(errors.unsupported_version, `versions ${String(hello.versionMin)} to ${String(hello.versionMax)}`)
    step = 'queue'
    attempt = attempts.begin(carrier, hello.agentId, () => challenge(kept), () => refuse(errors.gateway_busy, `agent ${hello.agentId}: too many tries`))
  }

  const challenge = (kept: Buffer): void => {
    record = gatekeeper.recordOf(hello.agentId)
    let started: ReturnType<typeof serverStart>
    try {
      started = serverStart(gatekeeper.serverSetup, hello.agentId, record ?? gatekeeper.decoyRecord, hello.ke1)
    } catch {
      return refuse(errors.protocol_error, 'KE1 is no message of OPAQUE')
    }
    opaqueState = started.state
    const message = encodeChallenge(VERSION, 0, started.ke2)
    firstTwo = [kept, message]
    step = 'proof'
    carrier.send(message)
  }

  // The challenge tells an agent whether its secret is right, and one that is honest says so.
  const takeClose = (message: Buffer): void => {
    const { code } = decodeClose(message)
    refuse(code === errors.unauthenticated ? code : errors.agent_lost, `agent ${hello.agentId}: gave up with ${code.name}`)
  }

  const takeProof = (message: Buffer): void => {
    const { ke3 } = decodeProof(message)
    const sessionKey = serverFinish(opaqueState, ke3)
    // Whoever was challenged by the decoy never gets here.
    if (sessionKey === undefined) return refuse(errors.unauthenticated, `agent ${hello.agentId}: the proof is wrong`)
    attempt?.right()
    const offer = gatekeeper.terms(hello, record)
    if ('number' in offer) return refuse(offer, offer.says)
    if (!hello.policies.includes(offer.policy)) return refuse(errors.policy_mismatch, `this gateway wants payload sealed: ${offer.policy}`)
    const lanes = Math.min(hello.lanes, offer.lanes, LANES_MAX_COUNT)
    const sessionId = environment.random(SESSION_ID_BYTES)
    const firstThree = [...firstTwo, message]
    const inside = encodeWelcomeInside({ sessionId, lanes, policy: offer.policy, settings: offer.settings, terms: offer.terms })
    const welcome = Buffer.concat([Buffer.of(Kind.welcome), sealOnce(welcomeKey(sessionKey, firstThree), inside)])
    const session = new Session(
      {
        role: 'gateway',
        sessionId,
        secret: sessionSecret(sessionKey, [...firstThree, welcome]),
        policy: offer.policy,
        lanes,
        settings: offer.settings,
        peerSettings: hello.settings,
        terms: offer.terms,
      },
      { ...environment, times: timesOf(offer.terms, environment.times) },
    )
    over()
    carrier.send(welcome)
    session.begin(carrier)
    gatekeeper.onSession(session, hello, carrier)
  }

  const takeChannelOpen = (message: Buffer): void => {
    const { sessionId, channelNumber, marks } = decodeChannelOpen(message)
    const session = gatekeeper.sessionById(sessionId.toString('hex'))
    if (session === undefined) return refuse(errors.unknown_session, 'no such session')
    const refusal = session.acceptChannel(carrier, message, channelNumber, marks)
    if (refusal !== undefined) return refuse(refusal.code, refusal.detail)
    over()
    gatekeeper.onChannel(session, carrier)
  }

  carrier.onMessage = (message) => {
    if (step === 'over') return
    try {
      if (message.length > HANDSHAKE_MESSAGE_MAX_BYTES) throw new PosternError(errors.protocol_error, `a message of ${String(message.length)} bytes before the proof`)
      const kind = message[0]
      if (kind === Kind.beat && step === 'first') takeProbe(message)
      else if (kind === Kind.hello && step === 'first') takeHello(message)
      else if (kind === Kind.channelOpen && step === 'first') takeChannelOpen(message)
      else if (kind === Kind.proof && step === 'proof') takeProof(message)
      else if (kind === Kind.close && step !== 'first') takeClose(message)
      else throw new PosternError(errors.protocol_error, `a message of kind ${String(kind)} where none may come`)
    } catch (error) {
      const { code, detail } = blame(error)
      refuse(code, detail)
    }
  }
  carrier.onClosed = (reason) => {
    if (step === 'over') return
    // A probe and no more: its agent had found a better way by then.
    const onlyAsked = step === 'first' && probes > 0
    over()
    if (!onlyAsked) gatekeeper.onRefused(carrier, errors.agent_lost, `left during the handshake: ${reason}`, agentId)
  }
}

/** Both ends of a session beat and wait as its terms say. */
function timesOf({ heartbeat_ms, dead_after_ms, grace_ms }: Terms, { handshakeMs }: Times): Times {
  return { heartbeatMs: heartbeat_ms, deadAfterMs: dead_after_ms, graceMs: grace_ms, handshakeMs }
}

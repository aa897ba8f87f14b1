// OPAQUE (RFC 9807) as Postern uses it: the agent proves its secret and neither wire nor store ever holds it (SPEC §3).
import * as opaque from '@serenity-kit/opaque'

/**
 * Secrets are made by us (256 random bits), never chosen by people, so a guess costs 2^255 tries whatever the
 * stretching is. Its least setting saves the agent 300 ms and 70 MB a login.
 */
const KEY_STRETCHING = { 'argon2id-custom': { iterations: 1, memory: 8, parallelism: 1 } } as const

/** Resolves when the library's WebAssembly is loaded; every other function here needs that. */
export const ready: Promise<void> = opaque.ready

/** The gateway's long-term OPAQUE setup (base64url): made once, stored, never shown. */
export function createServerSetup(): string {
  return opaque.server.createSetup()
}

/** The gateway's public key (base64url), which the join string carries and the agent checks. */
export function publicKey(serverSetup: string): string {
  return opaque.server.getPublicKey(serverSetup)
}

/** Runs both halves of a registration and returns the record to store. The secret can't be had back from it. */
export function register(serverSetup: string, agentId: string, secret: string): string {
  const client = opaque.client.startRegistration({ password: secret })
  const { registrationResponse } = opaque.server.createRegistrationResponse({
    serverSetup,
    userIdentifier: agentId,
    registrationRequest: client.registrationRequest,
  })
  return opaque.client.finishRegistration({
    password: secret,
    registrationResponse,
    clientRegistrationState: client.clientRegistrationState,
    keyStretching: KEY_STRETCHING,
  }).registrationRecord
}

/** A record of no agent, under a secret that nobody keeps. */
export function decoy(serverSetup: string, secret: string): string {
  return register(serverSetup, '', secret)
}

/** Agent, first step: `ke1` goes into HELLO, `state` is kept for {@link clientFinish}. */
export function clientStart(secret: string): { state: string; ke1: Uint8Array } {
  const { clientLoginState, startLoginRequest } = opaque.client.startLogin({ password: secret })
  return { state: clientLoginState, ke1: bytes(startLoginRequest) }
}

/**
 * Agent, second step. `undefined` when the gateway does not know this secret for this id, or is not the gateway
 * whose public key `gatewayKey` is.
 */
export function clientFinish(secret: string, state: string, ke2: Uint8Array, gatewayKey: string): { ke3: Uint8Array; sessionKey: Uint8Array } | undefined {
  try {
    const done = opaque.client.finishLogin({ clientLoginState: state, loginResponse: text(ke2), password: secret, keyStretching: KEY_STRETCHING })
    if (done === undefined || done.serverStaticPublicKey !== gatewayKey) return undefined
    return { ke3: bytes(done.finishLoginRequest), sessionKey: bytes(done.sessionKey) }
  } catch {
    // The library throws where the peer's bytes are no OPAQUE message at all: the same answer, not this gateway.
    return undefined
  }
}

/** Gateway, first step. Throws on bytes that are no KE1. */
export function serverStart(serverSetup: string, agentId: string, record: string, ke1: Uint8Array): { state: string; ke2: Uint8Array } {
  const { serverLoginState, loginResponse } = opaque.server.startLogin({
    serverSetup,
    userIdentifier: agentId,
    registrationRecord: record,
    startLoginRequest: text(ke1),
  })
  return { state: serverLoginState, ke2: bytes(loginResponse) }
}

/** Gateway, second step: the session key, or `undefined` when the proof is wrong. */
export function serverFinish(state: string, ke3: Uint8Array): Uint8Array | undefined {
  try {
    return bytes(opaque.server.finishLogin({ serverLoginState: state, finishLoginRequest: text(ke3) }).sessionKey)
  } catch {
    return undefined
  }
}

const bytes = (base64url: string): Uint8Array => Buffer.from(base64url, 'base64url')
const text = (raw: Uint8Array): string => Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString('base64url')

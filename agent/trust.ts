// Whom the agent takes for its gateway when TLS is spoken, as its user says: by which authorities, with which keys; and who it says it is itself.
import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import tls from 'node:tls'
import type { Demands } from './demands.ts'
import { SettingsError } from './settings.ts'

export interface Trust {
  /** PEM: instead of the authorities that the system trusts. */
  readonly ca?: string | undefined
  /** SHA-256 of public keys, base64: the certificate must be right and have one of these. */
  readonly pins: readonly string[]
  readonly client?: { readonly cert: string; readonly key: string } | undefined
  /** What the gateway asks besides. */
  readonly demands?: Demands | undefined
}

/** What a user says of it: paths of PEM files, and pins with commas between them. */
export interface TrustWishes {
  readonly ca?: string | undefined
  readonly pin?: string | undefined
  readonly client_cert?: string | undefined
  readonly client_key?: string | undefined
}

const HEX_PIN = /^[0-9a-fA-F]{64}$/
const BASE64_PIN = /^[A-Za-z0-9+/]{43}=$/

/** Reads it. Undefined if nothing is wished. Throws a {@link SettingsError}. */
export function readTrust({ ca, pin, client_cert, client_key }: TrustWishes, gateway: string): Trust | undefined {
  if (ca === undefined && pin === undefined && client_cert === undefined && client_key === undefined) return undefined
  // Whoever wants this gateway and no other would be let down without a word.
  if (!/^(https|tls):/i.test(gateway)) throw new SettingsError(`ca, pin, client_cert and client_key are of no use to ${gateway}, which speaks no TLS`)
  if ((client_cert === undefined) !== (client_key === undefined)) throw new SettingsError('client_cert and client_key go together')
  const trust = {
    ca: ca === undefined ? undefined : readPem('ca', ca),
    pins: pin === undefined ? [] : pin.split(',').map(readPin),
    client: client_cert === undefined ? undefined : { cert: readPem('client_cert', client_cert), key: readPem('client_key', client_key!) },
  }
  try {
    tls.createSecureContext({ ca: trust.ca, ...trust.client })
  } catch (error) {
    throw new SettingsError(`ca, client_cert and client_key: they can not be used: ${error instanceof Error ? error.message : String(error)}`)
  }
  return trust
}

function readPem(name: string, path: string): string {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new SettingsError(`${name}: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (!text.includes('-----BEGIN ')) throw new SettingsError(`${name}: ${path} holds no PEM`)
  return text
}

function readPin(text: string): string {
  const pin = pinFrom(text)
  if (pin === undefined) throw new SettingsError('pin: it should be the SHA-256 of the public key, in base64 or in hexadecimal')
  return pin
}

/** In base64; undefined if it is no pin. */
export function pinFrom(text: string): string | undefined {
  const bare = text.trim().replace(/^sha256[/:]/i, '')
  if (HEX_PIN.test(bare)) return Buffer.from(bare, 'hex').toString('base64')
  return BASE64_PIN.test(bare) ? bare : undefined
}

/** The pin of a certificate's key. */
export function pinOf(certificate: X509Certificate): string {
  return createHash('sha256').update(certificate.publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
}

/** Why a connection whose certificate is right is not to be used all the same. */
export function pinFault(trust: Trust | undefined, socket: Pick<tls.TLSSocket, 'getPeerX509Certificate'>): Error | undefined {
  if (trust === undefined || trust.pins.length === 0) return undefined
  const certificate = socket.getPeerX509Certificate()
  if (certificate !== undefined && trust.pins.includes(pinOf(certificate))) return undefined
  return Object.assign(new Error('the certificate has another key than the one that is pinned'), { code: 'ERR_TLS_PIN' })
}

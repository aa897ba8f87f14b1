// What is set for the agents' TLS: what is wrong with it is said, and of a key nobody is shown more than that there is one.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { AgentSettings } from './control-schemas.ts'

/** Stands where a key is; said in its place, it leaves the key as it is. */
export const KEPT = 'kept'

/** As JSON: besides it, services of 32,768 bytes fit into a WELCOME. */
const TLS_MAX_BYTES = 30_000

interface Fault {
  readonly field: string
  readonly reason: string
}

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g
const PRIVATE_KEY = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?-----END [A-Z0-9 ]*PRIVATE KEY-----(?:\\n|\s)*/gs

/** As it is shown, told and remembered. */
export function withoutKey(settings: AgentSettings): AgentSettings {
  return settings.tls?.client_key === undefined ? settings : { ...settings, tls: { ...settings.tls, client_key: KEPT } }
}

/** `asked`, with the key of before where it is to stay. Where there is none it stays {@link KEPT}, which is a fault. */
export function withKey(asked: AgentSettings, before: AgentSettings): AgentSettings {
  const key = before.tls?.client_key
  return asked.tls?.client_key === KEPT && key !== undefined ? { ...asked, tls: { ...asked.tls, client_key: key } } : asked
}

/** Whatever is printed of a key that somebody holds, as a file to apply does. */
export const withoutKeys = (text: string): string => text.replace(PRIVATE_KEY, KEPT)

/** `at`: where the settings lie in the body. No reason repeats what was said. */
export function tlsFaults({ tls }: AgentSettings, at: string): Fault[] {
  if (tls === undefined) return []
  const { ca, client_cert: cert, client_key: key } = tls
  const field = (name: string): string => `${at}tls.${name}`
  const faults: Fault[] = Buffer.byteLength(JSON.stringify(tls)) > TLS_MAX_BYTES ? [{ field: `${at}tls`, reason: `is of more than ${String(TLS_MAX_BYTES)} bytes` }] : []
  for (const [name, pem] of [['ca', ca], ['client_cert', cert]] as const) {
    if (pem !== undefined && certificatesOf(pem) === undefined) faults.push({ field: field(name), reason: 'should be certificates in PEM, and nothing else' })
  }
  if ((cert === undefined) !== (key === undefined)) faults.push({ field: field(cert === undefined ? 'client_cert' : 'client_key'), reason: 'is needed: certificate and key go together' })
  if (faults.length > 0 || cert === undefined || key === undefined) return faults
  if (key === KEPT) return [{ field: field('client_key'), reason: 'there is none to be kept' }]
  const reason = keyFault(certificatesOf(cert)![0]!, key)
  return reason === undefined ? [] : [{ field: field('client_key'), reason }]
}

function certificatesOf(pem: string): X509Certificate[] | undefined {
  const blocks = [...pem.matchAll(BLOCK)]
  // A block of another form, as keys with a password have it, is none of these: it would be shown to everybody.
  if (blocks.length === 0 || blocks.length !== pem.split('-----BEGIN ').length - 1 || blocks.some(([, kind]) => kind !== 'CERTIFICATE')) return undefined
  try {
    return blocks.map(([block]) => new X509Certificate(block))
  } catch {
    return undefined
  }
}

function keyFault(certificate: X509Certificate, pem: string): string | undefined {
  try {
    return certificate.checkPrivateKey(createPrivateKey(pem)) ? undefined : 'is not the key of client_cert'
  } catch {
    return 'should be a private key in PEM, without a password'
  }
}

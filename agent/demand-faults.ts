// How a certificate, or a connection, that the agent would take falls short of what else is asked of it: each answer says why, or is undefined.
import { X509Certificate } from 'node:crypto'

/** More certificates than any chain between a server and an authority has. */
const CHAIN_MAX_COUNT = 10
/** Blocks read of one text: a whole store of authorities would be no narrower than the system's. */
const AUTHORITIES_MAX_COUNT = 64
const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

/** The certificates of a PEM text; undefined if there are none, or one is broken. */
export function readAuthorities(pem: string): X509Certificate[] | undefined {
  try {
    const found = (pem.match(PEM_BLOCK) ?? []).slice(0, AUTHORITIES_MAX_COUNT).map((block) => new X509Certificate(block))
    return found.length === 0 ? undefined : found
  } catch {
    return undefined
  }
}

/** Does a chain of signatures lead from it, over what was shown with it, to one of these? Whether it is good at all was asked before. */
export function authorityFault(certificate: X509Certificate, authorities: readonly X509Certificate[]): string | undefined {
  const between: X509Certificate[] = []
  for (let one = certificate.issuerCertificate; one !== undefined && between.length < CHAIN_MAX_COUNT; one = one.issuerCertificate) between.push(one)
  let ends: readonly X509Certificate[] = [certificate]
  for (let step = 0; step <= CHAIN_MAX_COUNT && ends.length > 0; step++) {
    if (ends.some((end) => authorities.some((authority) => same(end, authority) || signed(end, authority)))) return undefined
    const from = ends
    ends = between.filter((one) => one.ca && !from.includes(one) && from.some((end) => signed(end, one)))
  }
  return `the certificate is signed by ${oneLine(certificate.issuer)}, which none of these vouches for`
}

export function nameFault(certificate: X509Certificate, name: string): string | undefined {
  return certificate.checkHost(name) === undefined ? `the certificate is not for ${name}` : undefined
}

/** `version` as TLSSocket.getProtocol() says it. */
export function versionFault(version: string, least: '1.2' | '1.3'): string | undefined {
  return least === '1.2' || version === 'TLSv1.3' ? undefined : `the connection is ${version}, not 1.3`
}

const same = (a: X509Certificate, b: X509Certificate): boolean => a.fingerprint256 === b.fingerprint256

function signed(certificate: X509Certificate, by: X509Certificate): boolean {
  return certificate.checkIssued(by) && certificate.verify(by.publicKey)
}

/** A name of a certificate, for people. */
export const oneLine = (name: string | undefined): string => name?.replaceAll('\n', ', ') ?? 'nobody'

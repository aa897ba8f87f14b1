// The certificate of the gateway's own TLS port: read when the gateway starts, and again when its files have changed.
import { readFileSync, statSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { SettingsError } from './settings.ts'

export interface CertificateFiles {
  readonly cert: string
  readonly key: string
  /** Who signs the certificates that agents must show; none are asked for without it. */
  readonly clientCa: string | undefined
}

interface Pem {
  readonly cert: Buffer
  readonly key: Buffer
  readonly ca?: Buffer
}

export class Certificate {
  private readonly files: CertificateFiles
  private readonly onTrouble: (detail: string) => void
  private seen: string
  private pem: Pem

  /** Reads them; throws a {@link SettingsError} that says what is wrong. `onTrouble` hears of each later try that was in vain. */
  constructor(files: CertificateFiles, onTrouble: (detail: string) => void) {
    this.files = files
    this.onTrouble = onTrouble
    this.seen = stateOf(files)
    this.pem = readPem(files)
  }

  /** What is to be shown from now on; undefined if that is what was shown before. New files that are wrong, or half written, are passed over until they change again. */
  renewed(): Pem | undefined {
    const now = stateOf(this.files)
    if (now === this.seen) return undefined
    this.seen = now
    try {
      this.pem = readPem(this.files)
    } catch (error) {
      this.onTrouble(error instanceof Error ? error.message : String(error))
      return undefined
    }
    return this.pem
  }

  get current(): Pem {
    return this.pem
  }
}

/** Reads certificate and key and sees whether they belong together. Throws a {@link SettingsError}. */
export function readPem(files: CertificateFiles): Pem {
  const pem: Pem = {
    cert: read('agents_tls_cert', files.cert),
    key: read('agents_tls_key', files.key),
    ...(files.clientCa === undefined ? {} : { ca: readAuthorities(files.clientCa) }),
  }
  try {
    createSecureContext(pem)
  } catch (error) {
    throw new SettingsError(`agents_tls_cert and agents_tls_key: ${files.cert} and ${files.key} can not be used together: ${error instanceof Error ? error.message : String(error)}`)
  }
  return pem
}

/** OpenSSL passes over what is no certificate: an empty file would let nobody in, and not say so. */
function readAuthorities(path: string): Buffer {
  const pem = read('agents_tls_client_ca', path)
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw new SettingsError(`agents_tls_client_ca: ${path} holds no certificate`)
  return pem
}

function read(name: string, path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new SettingsError(`${name}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Differs when either file was written or replaced. Symbolic links are followed, as certificate tools use them. */
function stateOf({ cert, key, clientCa }: CertificateFiles): string {
  return [cert, key, ...(clientCa === undefined ? [] : [clientCa])].map((path) => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
    return stat === undefined ? 'missing' : `${String(stat.ino)} ${String(stat.size)} ${String(stat.mtimeNs)}`
  }).join(', ')
}

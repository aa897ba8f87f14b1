// A certificate authority of a test's own, by openssl, and what it signs.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ends } from '../harness/origin.ts'

export interface Signed {
  readonly cert: string
  readonly key: string
  readonly certFile: string
  readonly keyFile: string
}

export interface SignOptions {
  /** For a server of these names; none: for a client. */
  readonly names?: readonly string[]
  /** Days until it ends; negative: it is over. */
  readonly days?: number
  /** By itself, not by the authority. */
  readonly self?: boolean
}

export interface Authority {
  readonly certFile: string
  sign(name: string, options?: SignOptions): Signed
}

export function makeAuthority(t: Ends): Authority {
  const dir = mkdtempSync(join(tmpdir(), 'postern-ca-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...newKey, '-days', '2', '-subj', '/CN=authority', '-addext', 'basicConstraints=critical,CA:TRUE', '-keyout', 'ca.key', '-out', 'ca.pem')
  let serial = 1
  return {
    certFile: join(dir, 'ca.pem'),
    sign: (name, { names = [], days = 2, self = false } = {}) => {
      const file = `${name}-${String(++serial)}`
      const [certFile, keyFile] = [join(dir, `${file}.pem`), join(dir, `${file}.key`)]
      const alternatives = names.map((one) => (/^[0-9.]+$/.test(one) ? `IP:${one}` : `DNS:${one}`)).join(',')
      writeFileSync(join(dir, `${file}.ext`), `basicConstraints=CA:FALSE\n${alternatives === '' ? '' : `subjectAltName=${alternatives}\n`}`)
      openssl('req', '-new', ...newKey, '-subj', `/CN=${name}`, '-keyout', keyFile, '-out', `${file}.csr`)
      const by = self ? ['-key', keyFile] : ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-set_serial', String(serial)]
      openssl('x509', '-req', '-in', `${file}.csr`, ...by, '-days', String(days), '-extfile', `${file}.ext`, '-out', certFile)
      return { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8'), certFile, keyFile }
    },
  }
}

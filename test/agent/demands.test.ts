// A chain of signatures, over intermediates too, is what is asked for; certificates, names and versions that fall short say why.
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import tls from 'node:tls'
import type { AddressInfo } from 'node:net'
import { authorityFault, nameFault, readAuthorities, versionFault } from '../../agent/demand-faults.ts'
import { Demands } from '../../agent/demands.ts'

const dir = mkdtempSync(join(tmpdir(), 'postern-chain-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))
const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' })
const read = (name: string): string => readFileSync(join(dir, `${name}.pem`), 'utf8')
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

function make(name: string, by: string | undefined, extension: string): void {
  writeFileSync(join(dir, `${name}.ext`), extension)
  openssl('req', '-new', ...NEW_KEY, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
  openssl('x509', '-req', '-in', `${name}.csr`, ...(by === undefined ? ['-key', `${name}.key`] : ['-CA', `${by}.pem`, '-CAkey', `${by}.key`]), '-set_serial', '7', '-days', '2', '-extfile', `${name}.ext`, '-out', `${name}.pem`)
}
const AUTHORITY = 'basicConstraints=critical,CA:TRUE\n'
make('root', undefined, AUTHORITY)
make('stranger', undefined, AUTHORITY)
make('between', 'root', AUTHORITY)
make('leaf', 'between', 'subjectAltName=DNS:edge.test,DNS:*.wild.test\n')

/** The certificate as an agent has it, with what was shown beside it. */
async function shown(): Promise<X509Certificate> {
  const server = tls.createServer({ cert: read('leaf') + read('between'), key: readFileSync(join(dir, 'leaf.key')) }, (socket) => socket.on('error', () => undefined))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const socket = tls.connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', servername: 'edge.test', ca: read('root') })
  await new Promise((resolve) => socket.once('secureConnect', resolve))
  const certificate = socket.getPeerX509Certificate()!
  socket.destroy()
  server.close()
  return certificate
}

t.test('a root, an intermediate and the certificate itself vouch for it; another authority, and one that it does not lead to, do not', async (t) => {
  const certificate = await shown()
  const by = (...names: readonly string[]): string | undefined => authorityFault(certificate, readAuthorities(names.map(read).join('\n'))!)
  t.equal(by('root'), undefined)
  t.equal(by('between'), undefined)
  t.equal(by('leaf'), undefined)
  t.equal(by('stranger', 'root'), undefined)
  t.match(by('stranger'), /signed by CN=between, which none of these vouches for/)
  t.match(authorityFault(new X509Certificate(read('leaf')), readAuthorities(read('root'))!), /CN=between/, 'what lies between was not shown')
  t.equal(readAuthorities('nothing'), undefined)
  t.equal(readAuthorities('-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----'), undefined)
})

t.test('names and versions', (t) => {
  const certificate = new X509Certificate(read('leaf'))
  t.equal(nameFault(certificate, 'edge.test'), undefined)
  t.equal(nameFault(certificate, 'a.wild.test'), undefined)
  t.match(nameFault(certificate, 'other.test'), /not for other\.test/)
  t.equal(versionFault('TLSv1.2', '1.2'), undefined)
  t.equal(versionFault('TLSv1.3', '1.3'), undefined)
  t.match(versionFault('TLSv1.2', '1.3'), /TLSv1\.2, not 1\.3/)
  t.end()
})

t.test('a text that is no name of a host is refused, whenever it comes: nothing is thrown at it', (t) => {
  const peer = { getPeerX509Certificate: () => new X509Certificate(read('leaf')), getProtocol: () => 'TLSv1.3' }
  for (const name of ['edge.test\0', '\0', '', ' ', 'e\ndge', 'ä.test', 'x'.repeat(254)]) {
    for (const first of [true, false]) {
      const demands = new Demands({ own: undefined, without: false })
      if (first) demands.fault(peer)
      demands.take({ server_name: name })
      t.same(demands.refused, [{ what: 'tls.server_name', reason: 'it is no name of a host' }])
      t.equal(demands.fault(peer), undefined)
    }
  }
  t.end()
})

t.test('a certificate that the gateway gave is shown at every other try, once a login came to nothing with it', (t) => {
  const given = { client_cert: read('leaf'), client_key: readFileSync(join(dir, 'leaf.key'), 'utf8') }
  const demands = new Demands({ own: undefined, without: false })
  demands.take(given)
  const shows = (): boolean => demands.client !== undefined
  const tries = [0, 1, 2].map(() => {
    demands.loginFailed()
    return shows()
  })
  t.same(tries, [false, true, false])
  demands.take(given)
  t.ok(shows())
  const own = { cert: given.client_cert, key: given.client_key }
  const withOwn = new Demands({ own: { pins: [], client: own }, without: false })
  withOwn.loginFailed()
  t.equal(withOwn.client, own)
  t.end()
})

t.test('what makes no sense is refused with a reason, each by itself, and the rest holds', (t) => {
  const demands = new Demands({ own: undefined, without: false })
  demands.take({ ca: 'none', min_version: '1.4', pins: ['short'], client_cert: read('leaf'), server_name: 'other.test' })
  t.same(demands.refused, [
    { what: 'tls.ca', reason: 'it holds no certificates' },
    { what: 'tls.min_version', reason: 'there is no such version' },
    { what: 'tls.pins', reason: 'one of them is no SHA-256 in base64 or hexadecimal' },
    { what: 'tls.client_cert', reason: 'its key, or the certificate itself, is missing' },
  ])
  const peer = { getPeerX509Certificate: () => new X509Certificate(read('leaf')), getProtocol: () => 'TLSv1.3' }
  t.match(demands.fault(peer)?.message, /tls\.server_name, and the certificate is not for other\.test/)
  demands.sessionOver()
  t.equal(demands.fault(peer), undefined, 'a login goes by its own configuration')
  demands.take({ client_cert: read('leaf'), client_key: readFileSync(join(dir, 'root.key'), 'utf8') })
  t.match(demands.refused, [{ what: 'tls.client_cert', reason: /mismatch/i }])
  t.equal(demands.client, undefined)
  demands.take({ client_cert: read('leaf'), client_key: readFileSync(join(dir, 'leaf.key'), 'utf8') })
  t.same(demands.refused, [])
  t.ok(demands.client)
  t.notOk(JSON.stringify(demands.list).includes('PRIVATE'))
  t.end()
})

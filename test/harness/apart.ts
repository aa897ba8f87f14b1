// Runs a test file once more in a network of its own, with nothing in it but a loopback, so that it may lose packets and answer for names as it likes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Ends } from './origin.ts'

/** Says that a process is inside already. */
const INSIDE = 'POSTERN_TEST_APART'

/** Of a second family and of no other machine, beside 127.0.0.0/8. */
export const V6_ADDRESS = 'fd00::1'

/** A resolver's answers of a family of which a machine has loopback addresses alone are left out, as on a machine that lacks it (RFC 3493, AI_ADDRCONFIG). */
const V4_ADDRESS = '10.99.99.1'

/** Packets of an Ethernet's size, each by itself: a loopback would carry 64 KiB in one, and lose it as one. The resolver is one that runs in here (names.ts). */
const ADDRESSES = `ip address add ${V6_ADDRESS}/128 dev lo nodad && ip address add ${V4_ADDRESS}/32 dev lo`
const ENTER = `ip link set lo up mtu 1500 gso_max_segs 1 && ${ADDRESSES} && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`

/** A slow answer is waited for, as behind a resolver that is far away. */
const RESOLVER = 'nameserver 127.0.0.1\noptions timeout:15 attempts:1\n'

/** What the machine's own network is spared. Undefined if it can be had here, else why not. */
function missing(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  const tried = spawnSync('unshare', ['--net', '--mount', 'nft', 'add table inet tried; add chain inet tried rules; add rule inet tried rules numgen random mod 100 < 5 drop'])
  if (tried.status === 0) return undefined
  return `no network of its own that loses packets is to be had here: ${tried.error?.message ?? tried.stderr.toString().trim()}`
}

/** True in that network. Elsewhere `file`, the caller, runs there as a test of `t`, or is skipped where it can not, and this is false. */
export async function isApart(t: Test, file: string): Promise<boolean> {
  if (process.env[INSIDE] !== undefined) return true
  const why = missing()
  if (why !== undefined) {
    t.pass('in a network of its own', { skip: why })
    return false
  }
  const dir = mkdtempSync(join(tmpdir(), 'postern-apart-'))
  const resolver = join(dir, 'resolv.conf')
  writeFileSync(resolver, RESOLVER)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const within = ['--net', '--mount', '--kill-child', 'sh', '-c', ENTER, 'sh', resolver, process.execPath, ...process.execArgv, file]
  await t.spawn('unshare', within, { env: { ...process.env, [INSIDE]: '1' } }, 'in a network of its own')
  return false
}

export interface Loss {
  /** Packets lost so far. */
  lost(): number
  stop(): void
}

/** Does it here and now; what it printed. */
const done = (command: string, ...args: string[]): string => {
  const { status, error, stdout, stderr } = spawnSync(command, args)
  if (status !== 0) throw new Error(`${command}: ${error?.message ?? stderr.toString()}`)
  return stdout.toString()
}

const nft = (...commands: string[]): string => done('nft', commands.join('; '))

/** From now on so many packets in a hundred to and from the TCP port are lost, by chance. */
export function losePackets(port: number, percent: number): Loss {
  const rule = (which: string): string => `add rule inet loss rules tcp ${which} ${String(port)} numgen random mod 100 < ${String(percent)} counter drop`
  nft(...chain('loss'), rule('dport'), rule('sport'))
  return {
    lost: () => [...nft('list table inet loss').matchAll(/counter packets (\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0),
    stop: () => void nft('delete table inet loss'),
  }
}

const chain = (table: string): string[] => [`add table inet ${table}`, `add chain inet ${table} rules { type filter hook input priority 0; }`]
const packetsTo = (address: string): string => `${address.includes(':') ? 'ip6' : 'ip'} daddr ${address}`

/** From now on nobody answers at that address, until the function that it gives is called. */
export function silence(address: string): () => void {
  nft(...chain('silent'), `add rule inet silent rules ${packetsTo(address)} drop`)
  return () => void nft('delete table inet silent')
}

/** From now on the first packet of each connection to that address is lost: it takes the second that TCP waits before it tries again. */
export function slowConnects(address: string): () => void {
  const first = `${packetsTo(address)} tcp flags & (syn | ack) == syn`
  nft(...chain('slow'), 'add set inet slow seen { type inet_service; flags dynamic; timeout 1m; }',
    `add rule inet slow rules ${first} tcp sport @seen accept`, `add rule inet slow rules ${first} add @seen { tcp sport } drop`)
  return () => void nft('delete table inet slow')
}

/** Until the end of the test this system has no file that names hosts, and nothing but that file and its resolver is asked for one. */
export function hideHosts(t: Ends): void {
  const dir = mkdtempSync(join(tmpdir(), 'postern-hosts-'))
  const order = join(dir, 'nsswitch.conf')
  writeFileSync(order, 'hosts: files dns\n')
  for (const [from, to] of [['/dev/null', '/etc/hosts'], [order, '/etc/nsswitch.conf']] as const) {
    done('mount', '--bind', from, to)
    t.teardown(() => void done('umount', to))
  }
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
}

/** From now on the network has no address of IPv6, as many a container's. */
export function leaveV6(): void {
  done('ip', '-6', 'address', 'flush', 'dev', 'lo')
}

// Reaches a host: its name is looked up anew each time, and its addresses of both families are raced (RFC 8305).
import { ADDRCONFIG, type LookupAddress } from 'node:dns'
import { lookup } from 'node:dns/promises'
import net from 'node:net'

/** Some resolvers take ten seconds, and then the answer is right. One that comes later than this serves the next try, if that is waiting by then. */
export const LOOKUP_MAX_MS = 12_000
/** How long an address may take before the next is tried beside it. */
const HEAD_START_MS = 250
/** Of a name that has more, the first: all of them are begun within a few seconds. */
const ADDRESSES_MAX_COUNT = 16

type Done = (error: Error | undefined, socket?: net.Socket) => void

/**
 * Calls `found` when the addresses are known, and `done` once with a connected socket, or with why there is none. From `found` on it is the caller who looks at the clock.
 * The function returned gives up, and nothing is called then.
 */
export function reach(host: string, port: number, found: () => void, done: Done): () => void {
  const trying = new Set<net.Socket>()
  const failures: Error[] = []
  let left: string[] = []
  let over = false
  const stop = (): void => {
    over = true
    clearTimeout(timer)
    for (const socket of trying) socket.destroy()
  }
  const finish = (error: Error | undefined, socket?: net.Socket): void => {
    if (over) return void socket?.destroy()
    stop()
    done(error, socket)
  }
  // Not as Node races them (autoSelectFamily): that drops each address when the next has its turn, and of two the first may be the one that is only slow.
  const begin = (): void => {
    clearTimeout(timer)
    const address = left.shift()
    if (address === undefined) return
    const socket = net.connect({ host: address, port, noDelay: true, keepAlive: true })
    trying.add(socket)
    const failed = (error: Error): void => {
      trying.delete(socket)
      failures.push(error)
      if (over) return
      if (left.length > 0) begin()
      else if (trying.size === 0) finish(together(failures))
    }
    socket.once('error', failed)
    socket.once('connect', () => {
      socket.off('error', failed)
      trying.delete(socket)
      finish(undefined, socket)
    })
    if (left.length > 0) timer = setTimeout(begin, HEAD_START_MS)
  }
  let timer = setTimeout(() => finish(unknown('EAI_AGAIN', `the name is looked up, and no answer came within ${String(LOOKUP_MAX_MS / 1_000)} s`)), LOOKUP_MAX_MS)
  addressesOf(host).then((addresses) => {
    if (over) return
    clearTimeout(timer)
    left = inTurn(addresses)
    found()
    begin()
  }, (error: unknown) => {
    const { code = '' } = error as NodeJS.ErrnoException
    finish(unknown(code, code === 'ENOTFOUND' ? `nobody knows this name (${code})` : `the name can not be looked up (${code})`))
  })
  return stop
}

const unknown = (code: string, message: string): Error => Object.assign(new Error(message), { code })

const underWay = new Map<string, Promise<readonly LookupAddress[]>>()

/**
 * No answer is kept: whoever asks next asks anew. But those that ask while one is awaited share it: every candidate of a race asks for the same name, and a few lookups that take
 * their time keep all others of the process from theirs (libuv has two at once), the origin's too.
 */
function addressesOf(host: string): Promise<readonly LookupAddress[]> {
  const known = underWay.get(host)
  if (known !== undefined) return known
  // As Node does for a socket: a network of one family alone may have a resolver that never answers for the other.
  const asked = lookup(host, { all: true, hints: ADDRCONFIG }).finally(() => underWay.delete(host))
  underWay.set(host, asked)
  return asked
}

/** The families by turns, that of the first address first, each in the resolver's order. */
function inTurn(addresses: readonly LookupAddress[]): string[] {
  const first = addresses.filter(({ family }) => family === addresses[0]!.family)
  const second = addresses.filter(({ family }) => family !== addresses[0]!.family)
  const both = first.flatMap((one, i) => [one, ...second.slice(i, i + 1)])
  return [...both, ...second.slice(first.length)].slice(0, ADDRESSES_MAX_COUNT).map(({ address }) => address)
}

/** One failure for all that were tried. */
function together(failures: readonly Error[]): Error {
  if (failures.length === 1) return failures[0]!
  return Object.assign(new AggregateError(failures, failures.map(({ message }) => message).join(', ')), { code: (failures.at(-1) as NodeJS.ErrnoException).code })
}

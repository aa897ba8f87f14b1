// A small resolver for tests, in a network of its own (apart.ts): it answers for the names it is told of, late if it is told so, and counts.
import { createSocket } from 'node:dgram'
import type { Ends } from './origin.ts'

export interface Names {
  /** From now on these are the addresses of `name`; none at all: nobody knows it. */
  set(name: string, ...addresses: readonly string[]): void
  /** From now on an answer takes so long. */
  slow(ms: number): void
  /** How often a name was asked for. */
  asked(name: string): number
  /** How many questions for addresses of the older family waited for their answers at the same time, at most. */
  mostAtOnce(): number
}

const PORT = 53
const Type = { a: 1, aaaa: 28 } as const
/** Standard answer, recursion available; and the same for a name that there is not. */
const FLAGS = 0x8180
const NO_SUCH_NAME = 3

export async function startNames(t: Ends): Promise<Names> {
  const known = new Map<string, readonly string[]>()
  const asked = new Map<string, number>()
  let delayMs = 0
  let [waiting, most] = [0, 0]
  const socket = createSocket('udp4')
  const timers = new Set<NodeJS.Timeout>()
  socket.on('message', (query, from) => {
    const { name, type, end } = questionOf(query)
    const counts = type === Type.a ? 1 : 0
    if (counts === 1) asked.set(name, (asked.get(name) ?? 0) + 1)
    waiting += counts
    most = Math.max(most, waiting)
    const addresses = known.get(name)
    const right = (addresses ?? []).filter((address) => address.includes(':') === (type === Type.aaaa))
    const head = Buffer.from(query.subarray(0, 12))
    head.writeUInt16BE(FLAGS | (addresses === undefined ? NO_SUCH_NAME : 0), 2)
    head.writeUInt16BE(right.length, 6)
    head.fill(0, 8)
    const answer = Buffer.concat([head, query.subarray(12, end), ...right.map((address) => recordOf(type, address))])
    const timer = setTimeout(() => {
      timers.delete(timer)
      waiting -= counts
      socket.send(answer, from.port, from.address)
    }, delayMs)
    timers.add(timer)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(PORT, '127.0.0.1', resolve)
  })
  t.teardown(() => {
    for (const timer of timers) clearTimeout(timer)
    socket.close()
  })
  return {
    set: (name, ...addresses) => void (addresses.length === 0 ? known.delete(name) : known.set(name, addresses)),
    slow: (ms) => (delayMs = ms),
    asked: (name) => asked.get(name) ?? 0,
    mostAtOnce: () => most,
  }
}

function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 }
}

/** One answer: the name is that of the question, and it may not be kept. */
function recordOf(type: number, address: string): Buffer {
  const bytes = type === Type.a ? Buffer.from(address.split('.').map(Number)) : groupsOf(address)
  const head = Buffer.alloc(12)
  head.writeUInt16BE(0xc00c, 0)
  head.writeUInt16BE(type, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt16BE(bytes.length, 10)
  return Buffer.concat([head, bytes])
}

function groupsOf(address: string): Buffer {
  const [before = '', after = ''] = address.split('::')
  const [left, right] = [before, after].map((part) => (part === '' ? [] : part.split(':'))) as [string[], string[]]
  const groups = [...left, ...new Array<string>(8 - left.length - right.length).fill('0'), ...right]
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex')
}

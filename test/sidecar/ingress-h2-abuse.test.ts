// Threat 18: a client of the h2 socket that opens and drops streams by the thousand, or never ends a head, keeps little work alive and loses its connection.
import t from 'tap'
import { until } from '../harness/until.ts'
import { CONTINUATION, DATA, END_HEADERS, END_STREAM, field, frame, HEADERS, PING, PRIORITY, RawH2, REQUEST, RST_STREAM, SETTINGS, uint32, WINDOW_UPDATE } from './h2-frames.ts'
import { type Rig, startIngress } from './ingress-rig.ts'

/** What the ingress lets one connection have open at once. */
const STREAMS_MAX_COUNT = 128
const CANCEL = uint32(8)

interface Watched {
  readonly rig: Rig
  /** The most exchanges that were under way at once. */
  most(): number
  underWay(): number
}

async function watch(t: Parameters<typeof startIngress>[0]): Promise<Watched> {
  let most = 0
  const rig = await startIngress(t, () => (most = Math.max(most, underWay())), 'h2')
  const underWay = (): number => rig.carried.filter(({ cancelled }) => cancelled === undefined).length
  return { rig, most: () => most, underWay }
}

t.test('10,000 streams opened and reset at once: few are ever under way, none is left, the connection is closed', async (t) => {
  const { rig, most, underWay } = await watch(t)
  const raw = new RawH2(rig.path)
  for (let i = 0; i < 10_000 && !raw.closed; i++) {
    const id = 2 * i + 1
    if (!raw.socket.write(Buffer.concat([frame(HEADERS, END_HEADERS, id, REQUEST), frame(RST_STREAM, 0, id, CANCEL)]))) {
      await until('it is read', () => raw.socket.writableLength < 65_536 || raw.closed)
    }
  }
  await until('closed', () => raw.closed)
  await until('none is left', () => underWay() === 0)
  t.ok(rig.carried.length < 10_000, `${String(rig.carried.length)} of 10,000 were begun`)
  t.ok(most() <= STREAMS_MAX_COUNT, `${String(most())} at once, ${String(rig.carried.length)} begun`)
})

/** Each makes the server reset the stream itself (CVE-2025-8671): what it began must end with it. */
const MADE: readonly (readonly [string, (id: number) => Buffer])[] = [
  ['WINDOW_UPDATE of 0', (id) => frame(WINDOW_UPDATE, 0, id, uint32(0))],
  ['WINDOW_UPDATE above 2^31-1', (id) => frame(WINDOW_UPDATE, 0, id, uint32(0x7fffffff))],
  ['DATA after the end', (id) => frame(DATA, 0, id, Buffer.from('x'))],
  ['HEADERS after the end', (id) => frame(HEADERS, END_HEADERS | END_STREAM, id, field('x', 'y'))],
  ['PRIORITY of a wrong length', (id) => frame(PRIORITY, 0, id, Buffer.alloc(4))],
  ['a stream that depends on itself', (id) => frame(PRIORITY, 0, id, Buffer.concat([uint32(id), Buffer.from([1])]))],
]

for (const [what, make] of MADE) {
  t.test(`2,000 streams that the server is made to reset: never more under way than are open (${what})`, async (t) => {
    const { rig, most } = await watch(t)
    const raw = new RawH2(rig.path)
    for (let i = 0; i < 2_000 && !raw.closed; i++) {
      const id = 2 * i + 1
      if (!raw.socket.write(Buffer.concat([frame(HEADERS, END_HEADERS | END_STREAM, id, REQUEST), make(id)]))) await until('it is read', () => raw.socket.writableLength < 65_536 || raw.closed)
    }
    await until('it is read', () => raw.socket.writableLength === 0 || raw.closed)
    t.ok(most() <= STREAMS_MAX_COUNT, `${String(most())} at once, ${String(rig.carried.length)} begun`)
    raw.socket.destroy()
    await until('none is left', () => rig.carried.every(({ cancelled }) => cancelled !== undefined))
  })
}

for (const [what, first, next] of [
  ['a head that CONTINUATION never ends', frame(HEADERS, 0, 1, REQUEST), frame(CONTINUATION, 0, 1, field('x', 'y'))],
  ['a head of empty CONTINUATIONs', frame(HEADERS, 0, 1, REQUEST), frame(CONTINUATION, 0, 1)],
  ['SETTINGS', Buffer.alloc(0), frame(SETTINGS, 0, 0)],
  ['PING', Buffer.alloc(0), frame(PING, 0, 0, Buffer.alloc(8))],
] as const) {
  t.test(`a flood of ${what} ends in the connection being closed or answered, and begins nothing`, async (t) => {
    const { rig } = await watch(t)
    const raw = new RawH2(rig.path)
    raw.socket.write(first)
    raw.socket.pause()
    const flood = Buffer.concat(Array.from({ length: 1_000 }, () => next))
    for (let i = 0; i < 100 && !raw.closed; i++) raw.socket.write(flood)
    raw.socket.resume()
    await until('closed', () => raw.closed || raw.goaway || raw.socket.writableLength === 0)
    if (first.length > 0) await until('closed', () => raw.closed)
    t.equal(rig.carried.length, 0)
    raw.socket.destroy()
  })
}

t.test('a head above the limits is refused, its connection goes on', async (t) => {
  const { rig } = await watch(t)
  const raw = new RawH2(rig.path)
  raw.socket.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, Buffer.concat([REQUEST, ...Array.from({ length: 200 }, () => field('x', 'y'))])))
  await until('refused', () => raw.ends > 0)
  t.same([rig.carried.length, rig.reports, raw.resets, raw.closed], [0, ['head_too_large'], 0, false])
  raw.socket.destroy()
})

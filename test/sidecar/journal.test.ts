// The journal: whatever happens on the hot path, a few batches a second leave it, one at a time, and each is bounded.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { type Batch, Journal, type Traced } from '../../sidecar/journal.ts'

class World {
  now = 1_000
  readonly batches: Batch[] = []
  private timer: { at: number; then: () => void } | undefined
  readonly journal = new Journal({
    now: () => this.now,
    soon: (then) => then(),
    later: (ms, then) => {
      this.timer = { at: this.now + ms, then }
      return () => (this.timer = undefined)
    },
  }, (batch) => this.batches.push(batch))

  pass(ms: number): void {
    this.now += ms
    const { timer } = this
    if (timer === undefined || timer.at > this.now) return
    this.timer = undefined
    timer.then()
  }
}

function exchange(more: Partial<Traced> = {}, path = '/a?token=secret'): Traced {
  const request = { uuid: 'u', service: 's', fields: [':method', 'GET', ':scheme', 'https', ':authority', 'h', ':path', path], address: '', worker: 0 } as unknown as Traced['request']
  return { request, agent: 'a', began: 900, sentAt: 910, headAt: 950, status: '200', code: undefined, sentBytes: 1, receivedBytes: 2, ...more }
}

t.test('what happens within a moment leaves as one batch, in its order', (t) => {
  const world = new World()
  world.journal.happened('session_began', 'agents/a', 'agent a', { peer: 'p' })
  world.journal.over(exchange())
  world.pass(100)
  world.journal.happened('session_ended', 'agents/a', 'agent a')
  t.equal(world.batches.length, 0)
  world.pass(200)
  t.match(world.batches, [{ happenings: [{ kind: 'session_began', at: 1_000 }, { kind: 'session_ended', at: 1_100 }], exchanges: [{ uuid: 'u' }], leftOut: 0 }])
  world.pass(1_000)
  t.equal(world.batches.length, 1, 'nothing more happened')
  t.end()
})

t.test('a note has the times of its parts, and the path without its query', (t) => {
  const world = new World()
  const codes: [Partial<Traced>, object][] = [
    [{}, { path: '/a', status: 200, error: null, waitMs: 10, headMs: 50, totalMs: 100, sentBytes: 1, receivedBytes: 2 }],
    [{ status: '', headAt: 0, code: errors.agent_lost }, { status: 502, error: 'agent_lost', headMs: null }],
    [{ status: '', headAt: 0, sentAt: 0, agent: '', code: errors.cancelled }, { status: null, error: 'cancelled', agent: null, waitMs: 100 }],
    [{ code: errors.agent_lost }, { status: 200, error: 'agent_lost' }],
  ]
  for (const [more] of codes) world.journal.over(exchange(more))
  world.journal.over(exchange({}, `/${'x'.repeat(5_000)}`))
  world.journal.flush()
  t.match(world.batches[0]!.exchanges, codes.map(([, note]) => note))
  t.equal(world.batches[0]!.exchanges.at(-1)!.path.length, 1_024)
  t.end()
})

t.test('a flood of exchanges leaves four bounded batches a second; those that failed have room of their own', (t) => {
  const world = new World()
  for (let ms = 0; ms < 1_000; ms++) {
    for (let i = 0; i < 20; i++) world.journal.over(exchange(i === 0 ? { code: errors.origin_refused } : {}))
    world.pass(1)
    if (world.batches.length > 0) world.journal.written()
  }
  t.ok(world.batches.length <= 4, `${String(world.batches.length)} messages`)
  for (const { exchanges } of world.batches) {
    t.equal(exchanges.filter(({ error }) => error === null).length, 128)
    t.equal(exchanges.filter(({ error }) => error !== null).length, 128)
  }
  t.end()
})

t.test('what the hot path spends on twenty thousand exchanges a second is below three percent of it', (t) => {
  const world = new World()
  const SECONDS = 5
  const kept = exchange()
  const began = process.cpuUsage()
  for (let ms = 0; ms < SECONDS * 1_000; ms++) {
    for (let i = 0; i < 20; i++) world.journal.over(kept)
    world.pass(1)
    const batch = world.batches.pop()
    if (batch === undefined) continue
    // As it goes over to the other thread.
    structuredClone(batch)
    world.journal.written()
  }
  const { user, system } = process.cpuUsage(began)
  const share = (user + system) / (SECONDS * 1_000_000)
  t.comment(`${(share * 100).toFixed(2)} %`)
  t.ok(share < 0.03, `it takes ${(share * 100).toFixed(2)} %`)
  t.end()
})

t.test('as long as one batch is being written no other leaves, and what does not fit is counted', (t) => {
  const world = new World()
  world.journal.happened('first', 's', 'w')
  world.pass(250)
  for (let i = 0; i < 20_100; i++) world.journal.happened('more', 's', 'w')
  world.pass(10_000)
  t.equal(world.batches.length, 1)
  world.journal.written()
  world.pass(250)
  t.equal(world.batches.length, 2)
  t.equal(world.batches[1]!.happenings.length, 20_000)
  t.equal(world.batches[1]!.leftOut, 100)
  t.end()
})

// A service's policy at the gateway, before a byte goes to an agent: rates, counted bodies, fields that come and go; nothing of it where none is asked.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import type { Fields } from '../../protocol/stream.ts'
import type { ServicePolicy } from '../../sidecar/policy.ts'
import { rulesOf } from '../../sidecar/policy-rules.ts'
import { BUCKETS_MAX_COUNT, Rates } from '../../sidecar/rates.ts'
import { until } from '../harness/until.ts'
import { answers, events, type Origin, Rig } from './gateway-rig.ts'

/** A gateway whose service `demo` has that policy, and an agent of it. What reached the agent: the fields of each request. */
async function start(t: Parameters<typeof Rig.start>[0], policy: ServicePolicy, origin: Origin = answers(200, 'ok')) {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  rig.directory.setService('demo', ['demo.localhost'], policy)
  const reached: Fields[] = []
  await rig.agent('a', (opening, stream) => {
    reached.push(opening.fields)
    return origin(opening, stream)
  })
  return { rig, reached }
}

t.test('a service takes so many requests a second, and says when it takes more', async (t) => {
  const { rig, reached } = await start(t, { rate: { service: { per_second: 0.001, burst: 2 } } })
  for (let i = 0; i < 2; i++) t.equal(await rig.ask('demo', { address: `192.0.2.${String(i)}` }).done(), 'head 200, end')
  const refused = rig.ask('demo', { address: '198.51.100.1' })
  t.equal(await refused.done(), 'fail rate_exceeded')
  t.ok(refused.retryAfterS! > 990 && refused.retryAfterS! <= 1_000)
  t.equal(reached.length, 2)
  rig.leapMs += 900_000
  t.equal(await rig.ask('demo').done(), 'fail rate_exceeded')
  rig.leapMs += 100_000
  t.equal(await rig.ask('demo').done(), 'head 200, end')
  rig.leapMs += 100_000_000
  const many = await Promise.all(Array.from({ length: 3 }, async () => rig.ask('demo').done()))
  t.same(many.filter((said) => said === 'head 200, end').length, 2, 'no more than a burst is saved up')
})

t.test('a source is an address, or a network of IPv6; one that asks too much takes nothing from others', async (t) => {
  const rate = { service: { per_second: 0.1, burst: 4 }, source: { per_second: 0.1, burst: 1 } }
  const { rig } = await start(t, { rate })
  const asked = async (address: string): Promise<string> => rig.ask('demo', { address }).done()
  t.equal(await asked('2001:db8::1'), 'head 200, end')
  for (let i = 0; i < 10; i++) t.equal(await asked(`2001:db8::2:${String(i)}`), 'fail rate_exceeded')
  for (const address of ['2001:db8:0:1::1', '192.0.2.1', '192.0.2.2']) t.equal(await asked(address), 'head 200, end', address)
  t.equal(await asked('192.0.2.3'), 'fail rate_exceeded', 'the service itself has had enough')
})

t.test('the table of rates does not grow', (t) => {
  const rates = new Rates({ now: () => 0 })
  const bucket = { per_second: 1, burst: 1 }
  for (let i = 0; i < BUCKETS_MAX_COUNT + 100; i++) rates.take([['service', { per_second: 1, burst: 1_000_000 }], [String(i), bucket]])
  t.equal(rates.size, BUCKETS_MAX_COUNT)
  t.equal(rates.take([[String(BUCKETS_MAX_COUNT + 99), bucket]]), 1, 'the newest are known')
  t.equal(rates.take([['0', bucket]]), 0, 'the oldest are forgotten')
  t.end()
})

t.test('a body is refused by the length it says, and counted where it says none', async (t) => {
  const { rig, reached } = await start(t, { body_max_bytes: 10 }, (opening, stream) => {
    const answer = (): void => stream.sendHead([':status', '200'], Buffer.from('ok'), true)
    if (opening.ended) answer()
    return events({ onData: (chunk) => stream.consumed(chunk.length), onEnd: answer })
  })
  t.equal(await rig.ask('demo', { method: 'POST', body: Buffer.alloc(10) }).done(), 'head 200, end')
  t.equal(await rig.ask('demo', { method: 'POST', body: Buffer.alloc(11) }).done(), 'fail body_too_large')
  t.equal(await rig.ask('demo', { method: 'POST', complete: false, fields: ['content-length', '11'] }).done(), 'fail body_too_large')
  t.equal(reached.length, 1, 'the others never went to an agent')
  const counted = rig.ask('demo', { method: 'POST', complete: false })
  counted.exchange.write(Buffer.alloc(6))
  counted.exchange.write(Buffer.alloc(4))
  t.equal(counted.events.join(), '')
  counted.exchange.write(Buffer.alloc(1))
  t.equal(await counted.done(), 'fail body_too_large')
  t.equal(rig.gateway.underWay, 0)
  const whole = rig.ask('demo', { method: 'POST', complete: false })
  whole.exchange.write(Buffer.alloc(10))
  whole.exchange.end()
  t.equal(await whole.done(), 'head 200, end')
})

t.test('what an upgraded connection carries is no body', async (t) => {
  const { rig } = await start(t, { body_max_bytes: 1 }, (_opening, stream) => {
    stream.sendHead([':status', '101'], Buffer.alloc(0), false)
    return events({ onData: (chunk) => void stream.write(chunk) })
  })
  const asked = rig.ask('demo', { protocol: 'echo', complete: false })
  await until('it is upgraded', () => asked.status === 101)
  asked.exchange.write(Buffer.from('more than one'))
  await until('it came back', () => asked.body.toString() === 'more than one')
  asked.exchange.cancel(errors.cancelled)
})

t.test('fields are removed, then added, both ways; nothing else changes', async (t) => {
  const policy: ServicePolicy = {
    request_fields: { remove: ['Cookie', 'X-Set'], add: [{ name: 'X-Set', value: 'by the gateway' }, { name: 'X-Twice', value: 'b' }] },
    response_fields: { remove: ['server'], add: [{ name: 'Strict-Transport-Security', value: 'max-age=1' }] },
  }
  const { rig, reached } = await start(t, policy, (_opening, stream) => {
    stream.sendHead([':status', '200', 'Server', 'x', 'Content-Type', 'text/plain', 'SERVER', 'y'], Buffer.from('ok'), true)
    return events()
  })
  const asked = rig.ask('demo', { fields: ['X-Twice', 'a', 'cookie', 'a=b', 'x-set', 'by the visitor', 'Accept', '*/*'] })
  t.equal(await asked.done(), 'head 200, end')
  t.same(reached[0]!.slice(8), ['X-Twice', 'a', 'Accept', '*/*', 'X-Set', 'by the gateway', 'X-Twice', 'b'])
  t.same(asked.fields, [':status', '200', 'Content-Type', 'text/plain', 'Strict-Transport-Security', 'max-age=1'])
})

t.test('what a visitor proves to us goes to no agent', async (t) => {
  const sha256 = ['a'.repeat(64)]
  const fields = ['Authorization', 'Bearer x', 'X-Api-Key', 'secret', 'Accept', '*/*']
  const { rig, reached } = await start(t, {})
  const seen = async (policy: ServicePolicy): Promise<Fields> => {
    rig.directory.setService('demo', ['demo.localhost'], policy)
    await rig.ask('demo', { fields }).done()
    return reached.at(-1)!.slice(8)
  }
  t.same(await seen({ token: { sha256 } }), ['X-Api-Key', 'secret', 'Accept', '*/*'])
  t.same(await seen({ basic: { sha256 } }), ['X-Api-Key', 'secret', 'Accept', '*/*'])
  t.same(await seen({ token: { sha256, field: 'x-api-key' } }), ['Authorization', 'Bearer x', 'Accept', '*/*'], 'the origin’s own credentials do')
  t.same(await seen({ methods: ['GET'] }), fields)
})

t.test('more fields than a head holds are no request', async (t) => {
  const { rig, reached } = await start(t, { request_fields: { add: [{ name: 'X-One', value: 'more' }] } })
  const fields = (count: number): string[] => Array.from({ length: count }, (_, at) => [`X-${String(at)}`, '']).flat()
  t.equal(await rig.ask('demo', { fields: fields(95) }).done(), 'head 200, end')
  t.equal(await rig.ask('demo', { fields: fields(96) }).done(), 'fail head_too_large')
  t.equal(reached.length, 1)
})

t.test('a change holds for the next request, and harms none that is under way', async (t) => {
  const streams: (() => void)[] = []
  const { rig } = await start(t, {}, (_opening, stream) => {
    streams.push(() => stream.sendHead([':status', '200'], Buffer.from('ok'), true))
    return events()
  })
  const before = rig.ask('demo')
  await until('it is at the agent', () => streams.length === 1)
  rig.directory.setService('demo', ['demo.localhost'], { body_max_bytes: 0, response_fields: { add: [{ name: 'X', value: 'y' }] } })
  t.equal(await rig.ask('demo', { method: 'POST', body: Buffer.alloc(1) }).done(), 'fail body_too_large')
  streams[0]!()
  t.equal(await before.done(), 'head 200, end')
  t.same(before.fields, [':status', '200'], 'under the policy it began with')
})

t.test('where nginx alone enforces there are no rules at all', (t) => {
  t.equal(rulesOf({}), undefined)
  t.equal(rulesOf({ state: 'off', methods: ['GET'], sources: { allow: [] }, https_redirect: 308, maintenance: {} }), undefined)
  t.end()
})

// A policy: what its schema takes and what not, ranges of addresses, fields that nobody may change, and credentials that nobody chose.
import { createHash, randomBytes } from 'node:crypto'
import { BlockList, isIPv6 } from 'node:net'
import Fastify from 'fastify'
import t from 'tap'
import { makeBasic, makeToken, type ServicePolicy, policyFaults, policySchema } from '../../sidecar/policy.ts'
import { addressHex, readRange } from '../../sidecar/ranges.ts'

const HASH = 'a'.repeat(64)

/** Everything at once. */
const FULL: ServicePolicy = {
  state: 'on',
  maintenance: { text: 'Back at noon, “really”.', retry_after_s: 600 },
  https_redirect: 308,
  methods: ['GET', 'M-SEARCH'],
  sources: { allow: ['10.0.0.0/8', '2001:db8::/32'], deny: ['10.1.1.1'] },
  token: { field: 'X-Api-Key', sha256: [HASH] },
  basic: { sha256: [HASH] },
  body_max_bytes: 0,
  rate: { service: { per_second: 0.5, burst: 1 }, source: { per_second: 10, burst: 20 } },
  request_fields: { remove: ['Cookie'], add: [{ name: 'X-From', value: 'the edge' }, { name: 'X-Empty', value: '' }] },
  response_fields: { remove: ['Server'], add: [{ name: 'Strict-Transport-Security', value: 'max-age=1' }] },
  sticky: true,
  weights: { 'agent-1': 3 },
  health: { kind: 'http', path: '/health?x', interval_ms: 1_000, timeout_ms: 500, unhealthy_after: 3, healthy_after: 2 },
}

t.test('the schema takes what a policy is, and nothing beside it', async (t) => {
  const app = Fastify({ ajv: { customOptions: { removeAdditional: false, coerceTypes: false } } })
  app.post('/', { schema: { body: policySchema } }, () => 'taken')
  const taken = async (policy: unknown): Promise<boolean> => (await app.inject({ method: 'POST', url: '/', payload: policy as object })).statusCode === 200
  t.ok(await taken({}))
  t.ok(await taken(FULL))
  const wrong: readonly unknown[] = [
    { unknown: 1 },
    { state: 'maybe' },
    { maintenance: { text: 'a\nb' } },
    { maintenance: { text: 'x'.repeat(501) } },
    { https_redirect: 302 },
    { methods: [] },
    { methods: ['get'] },
    { methods: ['GET', 'GET'] },
    { sources: { allow: ['localhost'] } },
    { sources: { allow: Array.from({ length: 65 }, (_, at) => `10.0.0.${String(at)}`) } },
    { token: {} },
    { token: { sha256: [] } },
    { token: { sha256: ['A'.repeat(64)] } },
    { token: { field: 'X Y', sha256: [HASH] } },
    { token: { field: 'X_Y', sha256: [HASH] } },
    { basic: { sha256: ['secret'] } },
    { body_max_bytes: -1 },
    { body_max_bytes: 1.5 },
    { rate: { service: { per_second: 0, burst: 1 } } },
    { rate: { source: { per_second: 1 } } },
    { request_fields: { add: [{ name: 'X', value: 'a\r\nB: c' }] } },
    { request_fields: { add: [{ name: 'X', value: ' a' }] } },
    { request_fields: { remove: [':path'] } },
    { response_fields: { add: [{ name: '', value: '' }] } },
    { weights: { a: 0 } },
    { health: { path: '/' } },
    { health: { kind: 'http', path: 'x' } },
    { health: { kind: 'http', interval_ms: 1 } },
  ]
  for (const policy of wrong) t.notOk(await taken(policy), JSON.stringify(policy).slice(0, 80))
  await app.close()
})

t.test('what a schema can not say is told with its place', (t) => {
  t.same(policyFaults({}), [])
  t.same(policyFaults(FULL), [])
  const places = (policy: ServicePolicy): string[] => policyFaults(policy).map(({ field }) => field)
  t.same(places({ sources: { allow: ['10.0.0.1/8', '1.2.3', '1.2.3.4/33', '::1/129', '::ffff:1.2.3.4', '1.2.3.4/08'] } }), Array(6).fill('sources.allow'))
  t.same(places({ sources: { deny: ['10.0.0.0/8', 'fe80::/10', '::/0', '0.0.0.0/0'] } }), [])
  const many = (third: number): string[] => Array.from({ length: 33 }, (_, at) => `10.0.${String(third)}.${String(at)}`)
  t.same(places({ sources: { allow: many(0), deny: many(1) } }), ['sources'])
  for (const field of ['Authorization', 'cookie', 'Host', 'Postern', 'Postern-X', 'Content-Length']) t.same(places({ token: { field, sha256: [HASH] } }), ['token.field'], field)
  for (const name of ['Connection', 'keep-alive', 'TE', 'Transfer-Encoding', 'upgrade', 'Content-Length', 'Host', 'Expect', 'Postern-Agent', 'postern', 'Via', 'Proxy-Status']) {
    t.same(places({ request_fields: { remove: [name] }, response_fields: { add: [{ name, value: 'x' }] } }), ['request_fields.remove', 'response_fields.add'], name)
  }
  t.end()
})

t.test('a range holds the addresses that Node’s own list holds', (t) => {
  const ranges = ['10.0.0.0/9', '192.168.1.0/30', '0.0.0.0/0', '203.0.113.7', '2001:db8::/33', '::/0', 'fe80::1', '64:ff9b::/96', '1:2:3:4:5:6:7:8']
  const addresses = ['10.127.255.255', '10.128.0.0', '192.168.1.3', '192.168.1.4', '203.0.113.7', '203.0.113.8', '2001:db8:7fff:ffff::', '2001:db8:8000::', 'fe80::1', 'fe80::2', '64:ff9b::1.2.3.4', '1:2:3:4:5:6:7:8', '::']
  for (const text of ranges) {
    const range = readRange(text)
    if ('reason' in range) return void t.fail(`${text} ${range.reason}`)
    const list = new BlockList()
    const [address = '', bits] = text.split('/')
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    list.addSubnet(address, Number(bits ?? (family === 'ipv6' ? 128 : 32)), family)
    for (const one of addresses) {
      const hex = addressHex(one)!
      const other = isIPv6(one) ? 'ipv6' : 'ipv4'
      t.equal(hex.length === range.from.length && hex >= range.from && hex <= range.to, other === family && list.check(one, other), `${one} in ${text}`)
    }
  }
  for (const none of ['', 'localhost', '1.2.3', '1.2.3.4.5', 'fe80::1%eth0', '12345::', '::1::']) t.equal(addressHex(none), undefined, none)
  t.end()
})

t.test('credentials are made, never chosen: 256 bits, kept as their hash', (t) => {
  const token = makeToken(randomBytes)
  t.match(token.secret, /^[A-Za-z0-9_-]{43}$/)
  t.equal(token.sha256, createHash('sha256').update(token.secret).digest('hex'))
  t.not(makeToken(randomBytes).secret, token.secret)
  const basic = makeBasic('ann', randomBytes)
  t.match(basic.secret, /^ann:[A-Za-z0-9_-]{43}$/)
  t.equal(basic.sha256, createHash('sha256').update(basic.secret).digest('hex'))
  t.end()
})

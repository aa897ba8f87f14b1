// The parser of request heads, the envelope and refusals, without sockets.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { readEnvelope } from '../../sidecar/envelope.ts'
import { refuse } from '../../sidecar/refusal.ts'
import { TOKEN } from '../../protocol/field-name.ts'
import { CONTROL, readRequestHead } from '../../sidecar/request-head.ts'
import { ENVELOPE, get, UUID } from './ingress-rig.ts'

t.test('whatever a seed makes of a head, what is accepted has one reading', async (t) => {
  let state = 20_261_124
  const below = (n: number): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) % n
  const odd = ['\r', '\n', '\r\n', ':', ' ', '\t', '\0', '\x7f', '\xff', 'Content-Length: 3\r\n', 'transfer-encoding:x\r\n', ',', '\r\n ']
  const base = get('/a?b', 'Accept: x\r\nContent-Length: 3\r\n').slice(0, -4)
  let accepted = 0
  for (let round = 0; round < 20_000; round++) {
    let text = base
    for (let i = below(3); i >= 0; i--) {
      const at = below(text.length)
      text = text.slice(0, at) + odd[below(odd.length)]! + text.slice(at + below(3))
    }
    const head = readRequestHead(text)
    if ('says' in head) continue
    accepted++
    const names = head.fields.filter((_, i) => i % 2 === 0)
    const lower = names.map((name) => name.toLowerCase())
    const sound = names.every((name) => TOKEN.test(name)) && !head.fields.some((each) => CONTROL.test(each)) && !lower.includes('transfer-encoding') &&
      lower.filter((name) => name === 'content-length').length <= 1 && lower.filter((name) => name === 'host').length === 1 && head.target.startsWith('/')
    if (!sound) t.fail(JSON.stringify(text))
  }
  t.ok(accepted > 100 && accepted < 19_000, String(accepted))
})

t.test('only what njs writes is an envelope', async (t) => {
  t.match(readEnvelope(ENVELOPE), { uuid: UUID, service: 'demo', address: '192.0.2.7', worker: 77, connection: '' })
  t.equal(readEnvelope(`${ENVELOPE}close%2C%20x`)?.connection, 'close, x')
  t.equal(readEnvelope(ENVELOPE.replace('demo;', ';'))?.service, '')
  for (const bad of ['', ENVELOPE.slice(0, -1), `2${ENVELOPE.slice(1)}`, ENVELOPE.replace('demo;', '../x;'), ENVELOPE.replace('http', 'ftp'), `${ENVELOPE}%0d`, `${ENVELOPE}%`, ENVELOPE.replace('demo.localhost', 'a%22b'), `${ENVELOPE};`]) {
    t.equal(readEnvelope(bad), undefined, bad)
  }
})

t.test('a refusal speaks the visitor\'s language', async (t) => {
  const types = { '': 'text/plain', '*/*': 'text/plain', 'text/html,*/*': 'text/html', 'application/json': 'application/problem+json', 'text/html, application/json': 'text/html' }
  for (const [accept, type] of Object.entries(types)) t.ok(refuse(errors.service_away, accept, UUID).fields[3]!.startsWith(type), accept)
  t.same(JSON.parse(String(refuse(errors.service_away, 'application/json', UUID).body)), { type: 'about:blank', title: 'Service Unavailable', status: 503, detail: errors.service_away.says, code: 'service_away', uuid: UUID })
  t.match(refuse(errors.service_away, '', UUID).fields.join('\n'), 'postern; error=destination_unavailable; details="service_away"\nRetry-After\n5')
})

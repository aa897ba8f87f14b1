// Both doors refuse in the visitor's language, whatever number of Accept fields says it.
import { connect } from 'node:http2'
import { connect as dial } from 'node:net'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { until } from '../harness/until.ts'
import { ENVELOPE, get, Raw, startIngress } from './ingress-rig.ts'

const CASES: readonly (readonly [readonly string[], string])[] = [
  [[], 'text/plain; charset=utf-8'], [['*/*'], 'text/plain; charset=utf-8'], [['text/html'], 'text/html; charset=utf-8'], [['image/png', 'text/html'], 'text/html; charset=utf-8'],
  [['application/json', 'text/html'], 'application/problem+json'], [['text/html', 'application/json'], 'text/html; charset=utf-8'],
]

t.test('the h1 door', async (t) => {
  const rig = await startIngress(t, (carried) => carried.answer.fail(errors.service_away, ''))
  const raw = new Raw(rig.path)
  for (const [accept, type] of CASES) {
    raw.text = ''
    raw.socket.write(get('/', accept.map((value) => `Accept: ${value}\r\n`).join('')))
    await until('refused', () => raw.text.includes('service_away') && raw.text.includes('uuid'))
    t.match(raw.text, `HTTP/1.1 503 Service Unavailable\r\nContent-Type: ${type}\r\n`, accept.join(' and '))
    t.match(raw.text, '\r\nRetry-After: 5\r\n')
  }
  t.same(rig.reports, CASES.map(() => 'service_away'))
  raw.socket.destroy()
})

t.test('the h2 door', async (t) => {
  const rig = await startIngress(t, (carried) => carried.answer.fail(errors.service_away, ''), 'h2')
  const session = connect('http://demo.localhost', { createConnection: () => dial(rig.path) })
  t.teardown(() => session.destroy())
  for (const [accept, type] of CASES) {
    const raw = [':method', 'GET', ':scheme', 'http', ':authority', 'demo.localhost', ':path', '/', 'postern', ENVELOPE, ...accept.flatMap((value) => ['accept', value])]
    const head = await new Promise<Record<string, unknown>>((resolve, reject) => {
      session.request(raw).on('response', resolve).on('error', reject).resume()
    })
    t.same([head[':status'], head['content-type'], head['retry-after']], [503, type, '5'], accept.join(' and '))
  }
})

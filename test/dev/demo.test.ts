// `npm run demo` publishes a service through all parts, and when it is told to end leaves no process and no file.
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import http from 'node:http'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { processesOf, ready, startDemo } from '../harness/demo.ts'
import { startOrigin } from '../harness/origin.ts'
import { visit } from '../system/visitor.ts'

t.test('the demo publishes its sample service, and Ctrl-C leaves no process and no file', async (t) => {
  const port = await freePort()
  const demo = startDemo(t, ['--port', String(port)])
  await ready(demo)
  const page = await visit({ port, host: `demo.localhost:${String(port)}` })
  t.equal(page.status, 200)
  t.match(page.body.toString(), /This page came through Postern/)
  t.match(page.body.toString(), new RegExp(`Host: demo\\.localhost:${String(port)}`, 'i'), 'the service sees the public name')
  t.equal((await visit({ port, host: 'nobody.localhost' })).status, 404)
  t.ok(processesOf(demo).length >= 4, 'gateway, agent, nginx with its workers')
  const events = http.get({ port, host: '127.0.0.1', path: '/events', headers: { host: 'demo.localhost' }, agent: false })
  events.on('error', () => undefined)
  await once(events, 'response')
  demo.child.kill('SIGINT')
  t.equal(await demo.ended, 0)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

t.test('the demo publishes an origin of one\'s own under a name of one\'s own', async (t) => {
  const origin = await startOrigin(t)
  const port = await freePort()
  const demo = startDemo(t, ['--port', String(port), '--origin', origin.url, '--host', 'mine.localhost'])
  await ready(demo)
  const answer = await visit({ port, host: 'mine.localhost', path: '/some/path?q' })
  t.same([answer.status, answer.body.toString()], [200, 'GET /some/path?q\n'])
  demo.child.kill('SIGTERM')
  t.equal(await demo.ended, 0)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

// The files of policies: written before the routes that name them, left for who reads the route of before, and no route says more than its policy on the disk.
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { ServiceEntry } from '../../sidecar/directory.ts'
import type { ServicePolicy } from '../../sidecar/policy.ts'
import { rig } from './routes-rig.ts'

const service = (name: string, hosts: string[], policy: ServicePolicy, more: Partial<ServiceEntry> = {}): ServiceEntry => {
  return { name, hosts, prefixes: ['/'], conceal: false, trailers: false, policy, ...more }
}
const GET: ServicePolicy = { methods: ['GET'] }

t.test('a policy that nginx enforces has a file and a flag; one for the gateway alone has neither', (t) => {
  const { read, names } = rig(t.testdir(), [
    service('a', ['a.test', 'also.test'], { ...GET, sticky: true }, { conceal: true, prefixes: ['/', '/x'] }),
    service('b', ['b.test'], { rate: { service: { per_second: 1, burst: 1 } }, request_fields: { remove: ['X'] }, weights: { z: 2 } }),
    service('c', ['c.test'], { state: 'off', ...GET }),
    service('d', ['d.test'], { state: 'on' }),
  ])
  t.same(names(), ['.mark', '@policy-a', '@policy-c', 'a.test', 'a.test@prefixes', 'also.test', 'also.test@prefixes', 'b.test', 'c.test', 'd.test'])
  t.equal(read('a.test'), '1 away h1 a cyp\n')
  t.equal(read('a.test@prefixes'), '/x 1 away h1 a cy\n')
  t.equal(read('b.test'), '1 away h1 b -\n')
  t.equal(read('c.test'), '1 off h1 c y\n')
  t.equal(read('d.test'), '1 away h1 d -\n')
  t.equal(read('@policy-a'), '{"v":1,"methods":["GET","HEAD"]}\n')
  t.end()
})

t.test('what nginx reads follows every change at once', (t) => {
  const { known, read, names, serve } = rig(t.testdir(), [service('a', ['a.test'], {})])
  serve('a', 'up')
  t.equal(read('a.test'), '1 up h1 a -\n')
  known.changeServices([{ name: 'a', entry: service('a', ['a.test'], GET) }])
  t.equal(read('a.test'), '1 up h1 a y\n')
  serve('a', 'unhealthy')
  t.equal(read('a.test'), '1 unhealthy h1 a y\n')
  known.changeServices([{ name: 'a', entry: service('a', ['a.test'], { state: 'off' }) }])
  t.equal(read('a.test'), '1 off h1 a -\n')
  t.equal(read('@policy-a'), '{"v":1}\n', 'for a request that read the line of before')
  known.changeServices([{ name: 'a', entry: undefined }])
  t.same(names(), ['.mark'])
  t.end()
})

t.test('a start takes up the policies it finds, and removes those that nobody asks for', (t) => {
  const dir = t.testdir({ routes: { '@policy-a': '{"v":1,"methods":["POST"]}\n', '@policy-b': '{"v":1}\n', '@policy-gone': '{"v":1}\n', '@policy-': 'x', 'a.test': '1 unhealthy h1 a y\n' } })
  const { read, names, fire } = rig(dir, [service('a', ['a.test'], GET), service('b', ['b.test'], {})])
  t.same(names(), ['.mark', '@policy-a', 'a.test', 'b.test'])
  t.equal(read('@policy-a'), '{"v":1,"methods":["GET","HEAD"]}\n')
  t.equal(read('a.test'), '1 up h1 a y\n', 'its agents are on their way')
  fire()
  t.equal(read('a.test'), '1 away h1 a y\n')
  t.end()
})

t.test('a policy that can not be written holds its routes back, and both come together', (t) => {
  const dir = t.testdir()
  const { known, routes, troubles, read, fire, serve } = rig(dir, [service('a', ['a.test'], GET), service('b', ['b.test'], {})])
  serve('a', 'up')
  // A folder in its place: no file is ever renamed over it.
  const place = join(dir, 'routes/@policy-a')
  renameSync(place, join(dir, 'before'))
  mkdirSync(place)
  writeFileSync(join(place, 'full'), '')
  known.changeServices([{ name: 'a', entry: service('a', ['a.test', 'public.test'], { token: { sha256: ['a'.repeat(64)] } }) }])
  t.throws(() => read('public.test'), 'nobody comes in by the new name under the old policy')
  t.equal(read('a.test'), '1 up h1 a y\n')
  t.notOk(routes.published)
  t.equal(troubles.length, 1)
  serve('b', 'up')
  t.equal(read('b.test'), '1 up h1 b -\n', 'others go on')
  rmSync(place, { recursive: true })
  fire()
  t.match(read('@policy-a'), '"tokens"')
  t.equal(read('public.test'), '1 up h1 a y\n')
  t.ok(routes.published)
  t.same(troubles.slice(1), [undefined])
  t.end()
})

t.test('a policy with what no schema would take lets nobody pass', (t) => {
  const { read } = rig(t.testdir(), [service('a', ['a.test'], { sources: { deny: ['10.0.0.1/8'] } })])
  t.equal(read('a.test'), '1 away h1 a y\n')
  t.equal(read('@policy-a'), '{"v":0}\n')
  t.end()
})

// The route files: whole, named strictly, changed only with their state, kept up over a restart, retried whatever it is that fails.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ServiceEntry } from '../../sidecar/directory.ts'
import { rig } from './routes-rig.ts'

const service = (name: string, hosts: string[], more: Partial<ServiceEntry> = {}): ServiceEntry => ({ name, hosts, prefixes: ['/'], conceal: false, trailers: false, ...more })

t.test('a table of all services, then the mark; strangers go; names of no host become no file', (t) => {
  const dir = t.testdir({ routes: { 'old.test': '1 away h1 old -\n', '.tmp-1': '' } })
  const { routes, read } = rig(dir, [
    service('a', ['a.test', '+.a.test', '../x', 'A.test', '.mark', 'a.test@prefixes'], { trailers: true, conceal: true }),
    service('b', ['b.test'], { prefixes: ['/x', '/x/longer'] }),
    service('c', ['b.test'], { prefixes: ['/c'] }),
  ])
  t.ok(routes.published)
  t.same(readdirSync(join(dir, 'routes')).sort(), ['+.a.test', '.mark', 'a.test', 'b.test', 'b.test@prefixes'])
  t.same(readdirSync(dir), ['routes'])
  t.equal(read('a.test'), '1 away h2 a c\n')
  t.equal(read('b.test'), '1 none h1 - p\n')
  t.equal(read('b.test@prefixes'), '/x/longer 1 away h1 b -\n/x 1 away h1 b -\n/c 1 away h1 c -\n')
  t.end()
})

t.test('presence and changes show at once', (t) => {
  const { known, read, serve } = rig(t.testdir(), [service('a', ['a.test'])])
  serve('a', true)
  t.equal(read('a.test'), '1 up h1 a -\n')
  known.changeServices([{ name: 'a', entry: service('a', ['z.test']) }])
  t.equal(read('z.test'), '1 up h1 a -\n')
  t.throws(() => read('a.test'))
  serve('a', false)
  t.equal(read('z.test'), '1 away h1 a -\n')
  known.changeServices([{ name: 'a', entry: undefined }])
  t.throws(() => read('z.test'))
  t.end()
})

t.test('what changes at once is published so that no hostname is nobody’s between, and one that goes to a wildcard goes last', (t) => {
  const dir = t.testdir()
  let seen: string[][] = []
  const names = (): string[] => readdirSync(join(dir, 'routes')).filter((name) => !name.startsWith('.')).sort()
  const { known, read } = rig(dir, [service('a', ['a.test']), service('b', ['b.test']), service('c', ['deep.c.test'])], () => void seen.push(names()))
  seen = []
  known.changeServices([{ name: 'a', entry: service('a', ['b.test']) }, { name: 'b', entry: service('b', ['a.test']) }])
  t.match(read('a.test'), / b -\n$/)
  t.match(read('b.test'), / a -\n$/)
  t.same(seen, [['a.test', 'b.test', 'deep.c.test'], ['a.test', 'b.test', 'deep.c.test']])
  seen = []
  known.changeServices([{ name: 'c', entry: undefined }, { name: 'd', entry: service('d', ['+.c.test']) }])
  t.same(seen, [['a.test', 'b.test', 'deep.c.test']], 'its own file is there until the wildcard’s is')
  t.same(names(), ['+.c.test', 'a.test', 'b.test'])
  t.end()
})

t.test('what was up before a restart stays up for the grace', (t) => {
  const dir = t.testdir({ routes: { 'a.test': '1 up h1 a -\n', 'b.test': '1 up h1 b -\n' } })
  const { read, fire, serve } = rig(dir, [service('a', ['a.test']), service('b', ['b.test'])])
  t.equal(read('a.test'), '1 up h1 a -\n')
  serve('b', true)
  fire()
  t.equal(read('a.test'), '1 away h1 a -\n')
  t.equal(read('b.test'), '1 up h1 b -\n')
  t.end()
})

t.test('a full disk is told once and tried again', { skip: process.getuid?.() !== 0 && 'mounting needs root' }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'postern-full-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', dir])
  t.teardown(() => {
    execFileSync('umount', [dir])
    rmSync(dir, { recursive: true })
  })
  mkdirSync(join(dir, 'routes'))
  try {
    writeFileSync(join(dir, 'fill'), Buffer.alloc(65_536))
  } catch {}
  const { routes, troubles, read, fire } = rig(dir, [service('a', ['a.test']), service('b', ['b.test'])])
  t.notOk(routes.published)
  t.notOk(existsSync(join(dir, 'routes/.mark')))
  t.equal(troubles.length, 1)
  t.match(troubles[0], /ENOSPC/)
  rmSync(join(dir, 'fill'))
  fire()
  t.ok(routes.published)
  t.equal(read('b.test'), '1 away h1 b -\n')
  t.same(troubles.slice(1), [undefined])
  t.end()
})

t.test('a folder that can not be made is told once and tried again, and what it held before counts', (t) => {
  const dir = t.testdir({ routes: 'in the way' })
  const { routes, troubles, read, fire, serve } = rig(dir, [service('a', ['a.test']), service('b', ['b.test'])])
  t.notOk(routes.published)
  serve('b', true)
  fire()
  t.match(troubles, [/EEXIST|ENOTDIR/])
  rmSync(join(dir, 'routes'))
  mkdirSync(join(dir, 'routes'))
  writeFileSync(join(dir, 'routes/gone.test'), '1 up h1 gone -\n')
  fire()
  t.ok(routes.published)
  t.same(readdirSync(join(dir, 'routes')).sort(), ['.mark', 'a.test', 'b.test'])
  t.equal(read('b.test'), '1 up h1 b -\n')
  t.same(troubles.slice(1), [undefined])
  t.end()
})

t.test('a stranger that can not be removed is tried again', { skip: process.getuid?.() !== 0 && 'mounting needs root' }, (t) => {
  const dir = t.testdir({ routes: { 'old.test': {}, 'older.test': '1 away h1 older -\n' } })
  const stranger = join(dir, 'routes/old.test')
  let mounted = true
  const unmount = () => {
    if (mounted) execFileSync('umount', [stranger])
    mounted = false
  }
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', stranger])
  t.teardown(unmount)
  const { routes, troubles, read, fire, known } = rig(dir, [service('a', ['a.test'])])
  t.ok(routes.published, 'the table itself is whole')
  t.same(readdirSync(join(dir, 'routes')).sort(), ['.mark', 'a.test', 'old.test'], 'the other one is gone')
  t.match(troubles, [/busy/])
  known.changeServices([{ name: 'b', entry: service('b', ['b.test']) }])
  t.equal(read('b.test'), '1 away h1 b -\n', 'and goes on')
  fire()
  t.equal(troubles.length, 1)
  unmount()
  fire()
  t.same(readdirSync(join(dir, 'routes')).sort(), ['.mark', 'a.test', 'b.test'])
  t.same(troubles.slice(1), [undefined])
  t.end()
})

t.test('once it is stopped the table stays as it is, for the process that comes next', (t) => {
  const { routes, read, serve } = rig(t.testdir(), [service('a', ['a.test'])])
  serve('a', true)
  routes.stop()
  serve('a', false)
  t.equal(read('a.test'), '1 up h1 a -\n')
  t.end()
})

t.test('a name is as long as it may be with `@prefixes` behind it', (t) => {
  const longest = `${'a.'.repeat(122)}ab`
  t.equal(longest.length, 246)
  const { read } = rig(t.testdir(), [service('a', [longest, `a${longest}`], { prefixes: ['/', '/x'] })])
  t.ok(read(`${longest}@prefixes`))
  t.throws(() => read(`a${longest}`))
  t.end()
})

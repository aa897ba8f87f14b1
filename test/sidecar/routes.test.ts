// The route files: whole, named strictly, changed only with their state, kept up over a restart, retried whatever it is that fails.
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ServiceEntry } from '../../sidecar/directory.ts'
import { rig } from './routes-rig.ts'
import { mountSmallDisk, noSmallDisk, type SmallDisk } from './small-disk.ts'

const service = (name: string, hosts: string[], more: Partial<ServiceEntry> = {}): ServiceEntry => ({ name, hosts, prefixes: ['/'], conceal: false, trailers: false, ...more })

/** Not t.testdir(): it is removed while the disk is still mounted. */
function smallDisk(t: Test): { dir: string; disk: SmallDisk } {
  const dir = mkdtempSync(join(tmpdir(), 'postern-full-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  return { dir, disk: mountSmallDisk(t, dir, 64) }
}

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

t.test('a route is plain, by its mode and for the gateway, if it is up by the first door and asks for nothing under an exact host', (t) => {
  const dir = t.testdir()
  const { known, plain, read, isPlain, serve } = rig(dir, [service('a', ['a.test', '+.a.test'])])
  t.notOk(isPlain('a.test'), 'away')
  serve('a', true)
  t.same([read('a.test'), isPlain('a.test'), plain.serviceOf('a.test')], ['1 up h1 a -\n', true, 'a'])
  t.same([read('+.a.test'), isPlain('+.a.test'), plain.serviceOf('+.a.test')], ['1 up h1 a -\n', false, undefined])
  const others: readonly Partial<ServiceEntry>[] = [{ trailers: true }, { conceal: true }, { prefixes: ['/', '/x'] }, { prefixes: ['/x'] }, { policy: { state: 'off' } }, { policy: { methods: ['GET'] } }]
  for (const other of others) {
    known.changeServices([{ name: 'a', entry: service('a', ['a.test'], other) }])
    t.notOk(isPlain('a.test'), JSON.stringify(other))
    known.changeServices([{ name: 'a', entry: service('a', ['a.test']) }])
    t.ok(isPlain('a.test'))
  }
  serve('a', 'unhealthy')
  t.notOk(isPlain('a.test'), 'unhealthy')
  t.end()
})

t.test('the mark says what lengths the wildcards have, from before the first is there until after the last is gone', (t) => {
  const dir = t.testdir()
  let seen: (number | undefined)[] = []
  const told = (): number | undefined => {
    const stat = statSync(join(dir, 'routes/.mark'), { throwIfNoEntry: false })
    return stat === undefined ? undefined : (stat.mode & 0o777) === 0o744 ? stat.size - 2 : -1
  }
  const { known, names, fire } = rig(dir, [service('a', ['a.test'])], () => void seen.push(told()))
  t.same([told(), seen], [0, [undefined, undefined]])
  const change = (name: string, hosts: string[] | undefined, after: number, ...writes: number[]): void => {
    seen = []
    known.changeServices([{ name, entry: hosts === undefined ? undefined : service(name, hosts) }])
    t.same([told(), seen], [after, writes], `${name}: ${String(hosts)}`)
  }
  change('b', ['b.test'], 0, 0)
  change('c', ['+.c.test'], 0b10, 0, 0b10)
  change('d', ['+.c.test', '+.e.d.test', '+.test'], 0b111, 0b10, 0b111, 0b111)
  change('c', undefined, 0b111, 0b111)
  change('d', ['+.k.i.h.g.f.e.d.c.b.a.test'], 0x100, 0b111, 0x107, 0x107)
  change('d', undefined, 0, 0x100)
  t.same(names(), ['.mark', 'a.test', 'b.test'])
  fire()
  t.equal(told(), 0)
  t.end()
})

t.test('a mark of the process before is corrected before the first wildcard is written, one that says nothing is let be until then', (t) => {
  for (const [mode, expected] of [[0o744, [[0o744, 2], [0o744, 4], [0o744, 4]]], [0o644, [[0o644, 2], [0o644, 2]]]] as const) {
    const dir = t.testdir({ routes: { '.mark': '1\n' } })
    const mark = join(dir, 'routes/.mark')
    chmodSync(mark, mode)
    const seen: unknown[] = []
    rig(dir, [service('a', ['+.a.test'])], () => void seen.push([statSync(mark).mode & 0o777, statSync(mark).size]))
    t.same(seen, expected)
    t.same([statSync(mark).mode & 0o777, statSync(mark).size], [0o744, 4])
  }
  t.end()
})

t.test('a wildcard is not there before the mark says so, and what goes to it stays until it is', (t) => {
  for (const [name, fails, said] of [['the mark', [true], 0b100], ['the wildcards', [false, true, true], 0b110], ['all', [true, true, true, true, true, true], 0b100]] as const) {
    const dir = t.testdir()
    let writes: boolean[] = []
    const { known, routes, fire, names, troubles } = rig(dir, [service('a', ['deep.c.test', '+.deep.d.test']), service('b', ['b.test'])], () => {
      if (writes.shift() === true) throw new Error('no room')
    })
    const told = (): number => statSync(join(dir, 'routes/.mark')).size - 2
    t.same([told(), names()], [0b100, ['+.deep.d.test', '.mark', 'b.test', 'deep.c.test']])
    // Something that can't be written for good.
    mkdirSync(join(dir, 'routes/x.test/y'), { recursive: true })
    known.changeServices([{ name: 'x', entry: service('x', ['x.test']) }])
    writes = [...fails]
    known.changeServices([{ name: 'a', entry: service('a', ['+.c.test', '+.d.test']) }])
    t.same([told(), names()], [said, ['+.deep.d.test', '.mark', 'b.test', 'deep.c.test', 'x.test']], `${name}: nothing is lost`)
    t.notOk(routes.published)
    writes = []
    fire()
    fire()
    t.same([told(), names()], [0b110, ['+.c.test', '+.d.test', '.mark', 'b.test', 'x.test']], `${name}: whatever else fails`)
    t.notOk(routes.published)
    rmSync(join(dir, 'routes/x.test'), { recursive: true })
    fire()
    t.same([routes.published, told(), troubles.length], [true, 0b10, 2], name)
  }
  t.end()
})

t.test('whatever could not be written, and in whatever order, all is as it is to be a second after it can', (t) => {
  type Step = (of: ReturnType<typeof rig>) => void
  const set = (...entries: readonly (readonly [string, readonly string[] | undefined, Partial<ServiceEntry>?])[]): Step => ({ known }) => {
    known.changeServices(entries.map(([name, hosts, more]) => ({ name, entry: hosts === undefined ? undefined : service(name, [...hosts], more) })))
  }
  const serve = (name: string, up: boolean): Step => (of) => of.serve(name, up)
  const POLICED = { policy: { methods: ['GET'] } } as const
  /** What it begins with; what happens while no file can be written; the files that must stay meanwhile, and those that are there in the end. */
  const cases: readonly (readonly [string, Step, readonly Step[], readonly string[], Readonly<Record<string, string>>])[] = [
    ['a wildcard for a host and a wildcard', set(['a', ['x.a.b', '+.a.b', '+.q.b']]), [set(['a', ['+.b', '+.q.b']])], ['x.a.b', '+.a.b', '+.q.b'], { '+.b': 'a -', '+.q.b': 'a -' }],
    ['a host that had failed goes to a wildcard', set(['a', ['x.test']], ['b', []]), [serve('a', true), set(['a', []], ['b', ['+.test']])], ['x.test'], { '+.test': 'b -' }],
    ['a host that had failed gets a policy', set(['a', ['a.test']]), [serve('a', true), set(['a', ['a.test'], POLICED])], ['a.test'], { 'a.test': 'a y', '@policy-a': '' }],
    ['a policy comes and is taken back', set(['a', ['a.test']]), [set(['a', ['a.test'], POLICED]), set(['a', ['a.test']])], ['a.test'], { 'a.test': 'a -' }],
    ['a host gets prefixes', set(['a', ['a.test']]), [set(['a', ['a.test'], { prefixes: ['/', '/x'] }])], ['a.test'], { 'a.test': 'a p', 'a.test@prefixes': '' }],
    ['a service with a policy gives way to a wildcard', set(['a', ['x.test'], POLICED], ['b', []]), [set(['a', undefined], ['b', ['+.test']])], ['x.test', '@policy-a'], { '+.test': 'b -' }],
    ['a service whose policy had failed gives way to a wildcard', set(['a', ['x.test'], POLICED], ['b', []]), [set(['a', ['x.test'], { policy: { methods: ['PUT'] } }]), set(['a', undefined], ['b', ['+.test']])], ['x.test', '@policy-a'], { '+.test': 'b -' }],
    ['a wildcard gives way to a host', set(['a', ['+.test']]), [set(['a', ['x.test']])], ['+.test'], { 'x.test': 'a -' }],
    ['a wildcard gives way to a longer one and comes back', set(['a', ['+.test']]), [set(['a', ['+.x.test']]), set(['a', ['+.test']])], ['+.test'], { '+.test': 'a -' }],
  ]
  for (const [name, first, steps, stay, last] of cases) {
    let broken = false
    const of = rig(t.testdir(), [], () => {
      if (broken) throw new Error('no room')
    })
    first(of)
    broken = true
    for (const step of steps) step(of)
    of.fire()
    t.same(of.names().filter((file) => file !== '.mark'), [...stay].sort(), `${name}: what there was stays`)
    broken = false
    of.fire()
    t.same(of.names().filter((file) => file !== '.mark'), Object.keys(last).sort(), name)
    for (const [file, end] of Object.entries(last)) t.ok(of.read(file).endsWith(end === '' ? '\n' : ` ${end}\n`), `${name}: ${file}`)
    t.ok(of.routes.published, name)
    t.equal(of.troubles.at(-1), undefined, name)
  }
  t.end()
})

t.test('a route asks for no prefixes that can not be written', (t) => {
  let fails = 0
  const { known, read, fire } = rig(t.testdir(), [service('a', ['a.test'])], () => {
    if (fails-- > 0) throw new Error('no room')
  })
  fails = 1
  known.changeServices([{ name: 'a', entry: service('a', ['a.test'], { prefixes: ['/', '/x'] }) }])
  t.equal(read('a.test'), '1 away h1 a -\n')
  fire()
  t.equal(read('a.test'), '1 away h1 a p\n')
  t.equal(read('a.test@prefixes'), '/x 1 away h1 a -\n')
  t.end()
})

t.test('who serves may be told before what has become of the service: until then the route is that of before', (t) => {
  let broken = false
  const { known, names, read, serve, fire, routes } = rig(t.testdir(), [service('a', ['x.test'])], () => {
    if (broken) throw new Error('no room')
  }, (changes) => changes.forEach(({ name, entry }) => {
    if (name === 'a') serve('a', entry !== undefined)
  }))
  serve('a', true)
  broken = true
  known.changeServices([{ name: 'a', entry: undefined }, { name: 'b', entry: service('b', ['x.test']) }])
  t.same([names(), read('x.test')], [['.mark', 'x.test'], '1 up h1 a -\n'])
  broken = false
  fire()
  t.same([names(), read('x.test'), routes.published], [['.mark', 'x.test'], '1 away h1 b -\n', true])
  t.end()
})

t.test('what can be taken off the net is, whatever else can not be written', (t) => {
  let broken = false
  const { known, names, serve } = rig(t.testdir(), [service('a', ['x.test']), service('b', ['+.test'])], () => {
    if (broken) throw new Error('no room')
  })
  broken = true
  serve('b', true)
  known.changeServices([{ name: 'a', entry: service('a', []) }])
  t.same(names(), ['+.test', '.mark'])
  t.end()
})

t.test('a name that is gone from disk and table leads nowhere after a while, a stranger of the process before too', (t) => {
  const dir = t.testdir({ routes: { 'old.test': '1 up h1 a -\n' } })
  chmodSync(join(dir, 'routes/old.test'), 0o744)
  const { plain, fire, names, pass } = rig(dir, [service('a', ['a.test'])])
  t.same([names(), plain.serviceOf('old.test')], [['.mark', 'a.test'], 'a'])
  pass(10_000)
  fire()
  t.equal(plain.serviceOf('old.test'), undefined)
  t.end()
})

t.test('a file of the process before that can not be read is replaced and keeps nothing from being known', { skip: process.getuid?.() !== 0 && 'needs root to be somebody else' }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'postern-unread-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  mkdirSync(join(dir, 'routes'))
  for (const [name, mode] of [['a.test', 0o600], ['b.test', 0o744]] as const) {
    writeFileSync(join(dir, 'routes', name), `1 up h1 ${name[0]!} -\n`)
    chmodSync(join(dir, 'routes', name), mode)
  }
  for (const place of [dir, join(dir, 'routes'), join(dir, 'routes/b.test')]) chownSync(place, 65_534, 65_534)
  process.seteuid!(65_534)
  try {
    const { plain, read, troubles } = rig(dir, [service('a', ['a.test']), service('b', ['b.test'])])
    t.same([read('a.test'), plain.serviceOf('b.test'), troubles], ['1 away h1 a -\n', 'b', []])
  } finally {
    process.seteuid!(0)
  }
  t.end()
})

t.test('a umask takes nothing of what the modes tell', (t) => {
  const before = process.umask(0o077)
  t.teardown(() => process.umask(before))
  const dir = t.testdir()
  const first = rig(dir, [service('a', ['a.test']), service('b', ['+.b.test'])])
  first.serve('a', true)
  first.serve('b', true)
  first.routes.stop()
  const stats = (): unknown[] => ['.mark', 'a.test', '+.b.test'].map((name) => [statSync(join(dir, 'routes', name)).mode & 0o777, name === '.mark' || statSync(join(dir, 'routes', name)).ino])
  const made = stats()
  t.same(made.map((stat) => (stat as number[])[0]), [0o700, 0o700, 0o600])
  const next = rig(dir, [service('a', ['a.test']), service('b', ['+.b.test'])])
  t.same(stats(), made)
  t.equal(next.plain.serviceOf('a.test'), 'a')
  t.end()
})

t.test('a mark of a strange size is replaced', (t) => {
  for (const text of ['', '1', '1\n'.repeat(2_000)]) {
    const dir = t.testdir({ routes: { '.mark': text } })
    const mark = join(dir, 'routes/.mark')
    chmodSync(mark, 0o744)
    const { routes, troubles } = rig(dir, [service('a', ['+.a.test'])])
    t.same([routes.published, troubles, statSync(mark).size], [true, [], 4])
  }
  t.end()
})

t.test('a plain route of the process before is known, and one of another mode is written again', (t) => {
  const dir = t.testdir({ routes: { 'a.test': '1 up h1 a -\n', 'b.test': '1 up h1 b -\n', 'c.test': '1 away h1 c -\n' } })
  chmodSync(join(dir, 'routes/b.test'), 0o744)
  chmodSync(join(dir, 'routes/c.test'), 0o744)
  const at = (name: string): number => statSync(join(dir, 'routes', name)).ino
  const before = ['a.test', 'b.test', 'c.test'].map(at)
  const { plain, isPlain } = rig(dir, [service('a', ['a.test']), service('b', ['b.test']), service('c', ['c.test'])])
  t.same(['a.test', 'b.test', 'c.test'].map(isPlain), [true, true, false])
  t.same(['a.test', 'b.test', 'c.test'].map((name) => plain.serviceOf(name)), ['a', 'b', undefined])
  t.same(['a.test', 'b.test', 'c.test'].map((name, i) => at(name) === before[i]), [false, true, false])
  t.end()
})

t.test('while the disk is full a host leads where its file on the disk does, for the next process too', { skip: noSmallDisk }, (t) => {
  const { dir, disk } = smallDisk(t)
  const first = rig(dir, [service('a', ['a.test', 'c.test']), service('b', [])])
  first.serve('a', true)
  first.serve('b', true)
  disk.fill()
  const now = [service('a', ['c.test']), service('b', ['a.test', '+.b.test'], { trailers: true })]
  first.known.changeServices(now.map((entry) => ({ name: entry.name, entry })))
  first.fire()
  t.same([first.isPlain('a.test'), first.plain.serviceOf('a.test'), first.plain.serviceOf('c.test')], [true, 'a', 'a'])
  first.routes.stop()
  const next = rig(dir, now)
  next.fire()
  t.same([next.isPlain('a.test'), next.plain.serviceOf('a.test'), next.plain.serviceOf('c.test'), next.routes.published], [true, 'a', 'a', false])
  disk.free()
  next.fire()
  t.same([next.isPlain('a.test'), next.isPlain('c.test'), next.routes.published], [false, false, true])
  t.equal(next.troubles.at(-1), undefined)
  t.equal(statSync(join(dir, 'routes/.mark')).size, 4)
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
  t.same(seen, [['a.test', 'b.test', 'deep.c.test'], ['a.test', 'b.test', 'deep.c.test']], 'its own file is there until the mark and the wildcard’s are written')
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

t.test('a full disk is told once and tried again', { skip: noSmallDisk }, (t) => {
  const { dir, disk } = smallDisk(t)
  mkdirSync(join(dir, 'routes'))
  disk.fill()
  const { routes, troubles, read, fire } = rig(dir, [service('a', ['a.test']), service('b', ['b.test'])])
  t.notOk(routes.published)
  t.notOk(existsSync(join(dir, 'routes/.mark')))
  t.equal(troubles.length, 1)
  t.match(troubles[0], /ENOSPC/)
  disk.free()
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

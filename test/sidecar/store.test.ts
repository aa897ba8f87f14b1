// The store: what it returned from is there after kill -9, a second process is refused, a newer store is not touched.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { Store, StoreBusyError } from '../../sidecar/store.ts'
import { MIGRATIONS } from '../../sidecar/store-migrations.ts'

const MODULE = join(import.meta.dirname, '../../sidecar/store.ts')
const SERVICE = { name: 'demo', hosts: ['demo.test'], prefixes: ['/', '/a'], conceal: false, trailers: true, labels: ['x=y'], origin: 'http://localhost:1', policy: { methods: ['GET'] }, createdAt: 5 }
const AGENT = { id: 'a', record: 'r', services: ['demo'], labels: ['x=y'], settings: { connections: 2 }, disabled: true, revoked: false, expiresAt: 7, createdAt: 5, rotatedAt: null }

t.test('what was put is there when it is opened again, in a file for its owner alone', (t) => {
  const dir = t.testdir()
  const first = new Store(dir)
  first.services.put(SERVICE)
  first.agents.put(AGENT)
  const made = first.setting('setup', () => 'once')
  first.close()
  const again = new Store(dir)
  t.teardown(() => again.close())
  t.same(again.services.all(), [SERVICE])
  t.same(again.services.placesOf('demo.test'), [{ host: 'demo.test', prefix: '/', service: 'demo' }, { host: 'demo.test', prefix: '/a', service: 'demo' }])
  t.same(again.agents.all(), [AGENT])
  t.equal(again.setting('setup', () => 'twice'), made)
  t.equal(statSync(join(dir, 'postern.db')).mode & 0o777, 0o600)
  t.end()
})

t.test('a service that an agent may serve is not removed, an agent of an unknown service not kept', (t) => {
  const store = new Store(t.testdir())
  t.teardown(() => store.close())
  store.services.put(SERVICE)
  store.agents.put(AGENT)
  t.throws(() => store.services.remove('demo'))
  t.throws(() => store.whole(() => store.agents.put({ ...AGENT, id: 'b', services: ['nowhere'] })))
  t.throws(() => store.whole(() => store.services.put({ ...SERVICE, name: 'other' })), /UNIQUE/, 'nor is a place another’s')
  t.same(store.agents.all().map(({ id }) => id), ['a'])
  t.same(store.services.all().map(({ name }) => name), ['demo'])
  store.agents.remove('a')
  store.services.remove('demo')
  t.same(store.services.all(), [])
  t.same(store.services.placesOf('demo.test'), [])
  t.end()
})

t.test('a store of the first version is brought to this one with all that was in it', (t) => {
  const dir = t.testdir()
  const db = new DatabaseSync(join(dir, 'postern.db'))
  db.exec(`${MIGRATIONS[0]!}; PRAGMA user_version = 1;
    INSERT INTO services VALUES ('old', '["old.test","+.old.test"]', '["/","/a"]', 1, 0); INSERT INTO agents VALUES ('a', 'r'); INSERT INTO agent_services VALUES ('a', 'old')`)
  db.close()
  const store = new Store(dir)
  t.teardown(() => store.close())
  t.same(store.services.one('old'), { name: 'old', hosts: ['old.test', '+.old.test'], prefixes: ['/', '/a'], conceal: true, trailers: false, labels: [], origin: null, policy: {}, createdAt: null })
  t.same(store.services.places('', '', 10).map(({ host, prefix }) => host + prefix), ['+.old.test/', '+.old.test/a', 'old.test/', 'old.test/a'])
  t.same(store.agents.all(), [{ id: 'a', record: 'r', services: ['old'], labels: [], settings: {}, disabled: false, revoked: false, expiresAt: null, createdAt: null, rotatedAt: null }])
  t.end()
})

t.test('history and exchanges are forgotten by age and by size, the oldest first, a little at a time', (t) => {
  const store = new Store(t.testdir())
  t.teardown(() => store.close())
  const now = 1_000_000
  const kept = { history: { ms: 1_000, bytes: 1_000_000_000 }, exchanges: { ms: 1_000, bytes: 1_000_000_000 } }
  const entry = { kind: 'k', subject: 's', who: 'w', detail: {} }
  store.whole(() => {
    for (let i = 0; i < 3_000; i++) store.history.add({ ...entry, at: now - 1_001 })
    for (let i = 0; i < 10; i++) store.history.add({ ...entry, at: now })
  })
  t.equal(store.history.forget(now, kept), true, 'there is more')
  t.equal(store.history.page(Number.MAX_SAFE_INTEGER, 9_999, {}).length, 2_510)
  while (store.history.forget(now, kept));
  t.equal(store.history.forget(now, kept), false)
  t.same(store.history.page(Number.MAX_SAFE_INTEGER, 9_999, {}).map(({ at }) => at), Array<number>(10).fill(now))
  const exchange = { at: now, uuid: 'u', service: 's', agent: null, method: 'GET', path: '/', status: 200, error: null, waitMs: 0, headMs: 1, totalMs: 1, sentBytes: 0, receivedBytes: 1 }
  store.whole(() => {
    for (let i = 0; i < 5_000; i++) store.history.addExchange(exchange)
  })
  const each = store.history.size('exchanges') / 5_000
  const smaller = { ...kept, exchanges: { ms: 1_000, bytes: 2_500 * each } }
  t.equal(store.history.forget(now, smaller), true, 'there is more')
  while (store.history.forget(now, smaller));
  t.equal(store.history.exchanges(Number.MAX_SAFE_INTEGER, 9_999, {}).at(-1)?.id, 2_501, 'no more than what was too much')
  t.equal(store.history.size('exchanges'), 2_500 * each)
  t.equal(store.history.forget(now, { ...kept, exchanges: { ms: 1_000, bytes: 2_499.5 * each } }), false)
  t.equal(store.history.exchanges(Number.MAX_SAFE_INTEGER, 9_999, {}).at(-1)?.id, 2_502, 'a row that stands half over the bound goes')
  t.equal(store.history.page(Number.MAX_SAFE_INTEGER, 9_999, {}).length, 10, 'exchanges take nothing of the history’s room')
  t.end()
})

t.test('nothing is written but in its folder', (t) => {
  const dir = t.testdir()
  const elsewhere = (): string[] => readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`)
      return /^\/(?!dev\/|proc\/)/.test(path) && !path.startsWith(dir) ? [path] : []
    } catch {
      // The one by which the folder was read.
      return []
    }
  })
  const before = elsewhere()
  const store = new Store(dir)
  t.teardown(() => store.close())
  store.whole(() => {
    const exchange = { service: 's', agent: 'a', method: 'GET', path: '/', status: 200, error: null, waitMs: 0, headMs: 1, totalMs: 1, sentBytes: 0, receivedBytes: 1 }
    for (let i = 0; i < 5_000; i++) store.history.addExchange({ ...exchange, at: i, uuid: String((i * 7_919) % 5_000) })
    t.same(elsewhere(), before)
  })
  t.end()
})

t.test('what history and exchanges take is counted as the file has it, by rows of every length, and survives whatever was not written', (t) => {
  const dir = t.testdir()
  const store = new Store(dir)
  t.teardown(() => store.close())
  const before = statSync(join(dir, 'postern.db')).size
  const add = (i: number): void => {
    store.history.add({ at: i, kind: 'session_began', subject: `agents/web-${String(i % 100)}`, who: `agent web-${String(i % 100)}`, detail: { session: 'f'.repeat(32), peer: '192.0.2.17' } })
    const exchange = { at: i, uuid: String(i).padStart(32, '0'), service: 'shop', agent: 'web-1', method: 'GET', path: `/${'x'.repeat(i % 60)}`, status: 200, error: i % 10 === 0 ? 'agent_lost' : null }
    store.history.addExchange({ ...exchange, waitMs: 0.1, headMs: 1.5, totalMs: 2.5, sentBytes: 0, receivedBytes: 1_000 })
  }
  store.whole(() => {
    for (let i = 0; i < 20_000; i++) add(i)
  })
  const counted = store.history.size('history') + store.history.size('exchanges')
  t.throws(() => store.whole(() => {
    add(1)
    throw new Error('no')
  }))
  t.equal(store.history.size('history') + store.history.size('exchanges'), counted)
  store.backup(join(dir, 'copy.db'))
  const real = statSync(join(dir, 'copy.db')).size - before
  t.ok(counted > 0.8 * real && counted < 1.25 * real, `${String(counted)} bytes are counted, and ${String(real)} more are on the disk`)
  t.end()
})

t.test('a backup is the store as it is, and no other file is written over', (t) => {
  const dir = t.testdir()
  const store = new Store(join(dir, 'a'))
  t.teardown(() => store.close())
  store.services.put(SERVICE)
  mkdirSync(join(dir, 'b'))
  const path = join(dir, 'b/postern.db')
  store.backup(path)
  t.throws(() => store.backup(path), /is there already/)
  t.equal(statSync(path).mode & 0o777, 0o600)
  store.services.remove('demo')
  const copy = new Store(join(dir, 'b'))
  t.teardown(() => copy.close())
  t.same(copy.services.all(), [SERVICE])
  t.end()
})

t.test('a copy that was on its way when the process was killed is gone with the next start', (t) => {
  const dir = t.testdir({ 'backup-0a1b': 'x', 'backup-mine': 'x' })
  new Store(dir).close()
  t.same(readdirSync(dir).sort(), ['backup-mine', 'postern.db'])
  t.end()
})

t.test('a second process is refused', (t) => {
  const dir = t.testdir()
  const store = new Store(dir)
  t.teardown(() => store.close())
  const script = `const { Store } = await import(process.argv[1]); try { new Store(process.argv[2]) } catch (error) { console.log(error.name) }`
  t.equal(spawnSync(process.execPath, ['--input-type=module', '-e', script, MODULE, dir], { encoding: 'utf8' }).stdout.trim(), StoreBusyError.name)
  t.end()
})

t.test('a store of a newer version is refused', (t) => {
  const dir = t.testdir()
  new Store(dir).close()
  const db = new DatabaseSync(join(dir, 'postern.db'))
  db.exec('PRAGMA user_version = 999')
  db.close()
  t.throws(() => new Store(dir), /newer version/)
  t.end()
})

t.test('kill -9 while it writes loses nothing acknowledged', async (t) => {
  const dir = t.testdir()
  const script = `const { Store } = await import(process.argv[1]); const { writeSync } = await import('node:fs'); const store = new Store(process.argv[2])
    for (let i = store.agents.all().length; ; i++) { store.whole(() => store.agents.put({ ...JSON.parse(process.argv[3]), id: 'a' + i })); writeSync(1, i + '\\n') }`
  for (let round = 1; round <= 5; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, MODULE, dir, JSON.stringify({ ...AGENT, services: [] })], { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      if (said.split('\n').length > 20 * round) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const store = new Store(dir)
    const ids = new Set(store.agents.all().map(({ id }) => id))
    store.close()
    t.same(said.trimEnd().split('\n').filter((number) => !ids.has(`a${number}`)), [])
  }
})

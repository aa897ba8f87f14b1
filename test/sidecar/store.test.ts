// The store: what it returned from is there after kill -9, a second process is refused, a newer store is not touched.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { Store, StoreBusyError } from '../../sidecar/store.ts'

const MODULE = join(import.meta.dirname, '../../sidecar/store.ts')
const SERVICE = { name: 'demo', hosts: ['demo.test'], prefixes: ['/'], conceal: false, trailers: true }

t.test('what was put is there when it is opened again, in a file for its owner alone', (t) => {
  const dir = t.testdir()
  const first = new Store(dir)
  first.putService(SERVICE)
  first.putAgent({ id: 'a', record: 'r', services: ['demo'] })
  const made = first.setting('setup', () => 'once')
  first.close()
  const again = new Store(dir)
  t.teardown(() => again.close())
  t.same(again.services(), [SERVICE])
  t.same(again.agents(), [{ id: 'a', record: 'r', services: ['demo'] }])
  t.equal(again.setting('setup', () => 'twice'), made)
  t.equal(statSync(join(dir, 'postern.db')).mode & 0o777, 0o600)
  t.end()
})

t.test('a service that an agent may serve is not removed, an agent of an unknown service not kept', (t) => {
  const store = new Store(t.testdir())
  t.teardown(() => store.close())
  store.putService(SERVICE)
  store.putAgent({ id: 'a', record: 'r', services: ['demo'] })
  t.throws(() => store.removeService('demo'))
  t.throws(() => store.putAgent({ id: 'b', record: 'r', services: ['nowhere'] }))
  t.same(store.agents().map(({ id }) => id), ['a'])
  store.removeAgent('a')
  store.removeService('demo')
  t.same(store.services(), [])
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
    for (let i = store.agents().length; ; i++) { store.putAgent({ id: 'a' + i, record: 'r', services: [] }); writeSync(1, i + '\\n') }`
  for (let round = 1; round <= 5; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, MODULE, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      if (said.split('\n').length > 20 * round) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const store = new Store(dir)
    const ids = new Set(store.agents().map(({ id }) => id))
    store.close()
    t.same(said.trimEnd().split('\n').filter((number) => !ids.has(`a${number}`)), [])
  }
})

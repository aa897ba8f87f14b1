// The commands that manage a gateway, while it runs and while it does not: what they print, and that nothing is left of what failed.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { decodeJoin } from '../../protocol/join.ts'
import { startGateway } from '../harness/gateway.ts'
import { commandsOf, folders } from './commands.ts'

t.test('while the gateway runs: agents and services come and go, and the join string is printed once', async (t) => {
  const gateway = await startGateway(t, { settings: { public_url: 'https://edge.test' } })
  const run = commandsOf(gateway)
  const route = (host: string) => existsSync(join(gateway.runDir, 'routes', host))
  const added = await run('agents add web-1 --service app --host App.Test')
  t.equal(added.code, 0)
  t.match(added.stdout, /^pj1_[A-Za-z0-9_-]+\n$/)
  t.match(decodeJoin(added.stdout), { url: 'https://edge.test', id: 'web-1' })
  t.ok(route('app.test'))
  const again = await run('agents add web-1 --service app --host more.test')
  t.same(again, { code: 1, stdout: '', stderr: 'postern-gateway: there is an agent web-1 already\n' })
  t.notOk(route('more.test'), 'and what it would have brought is not there')
  t.match(await run('agents add web-1 --service fresh --host fresh.test'), { code: 1 })
  t.notOk(route('fresh.test'))
  t.match((await run('agents add web-2 --service app --host more.test --json')).stdout, /"join": "pj1_/)
  t.ok(route('app.test') && route('more.test'), 'the places are added to those that were there')
  t.match(await run('agents add x --service nowhere'), { code: 1, stderr: 'postern-gateway: there is no service nowhere\n' })
  t.match(await run('agents add x! --service app'), { code: 1, stderr: /id/ })
  t.equal((await run('services add wiki --host wiki.test --prefix /w --conceal')).stdout, 'service wiki is there\n')
  t.equal((await run('services add wiki --host wiki.test')).stdout, 'service wiki is changed\n')
  t.equal((await run('services list')).stdout, 'SERVICE  HOSTS               PREFIXES  LABELS  POLICY\napp      app.test more.test  /\nwiki     wiki.test           /\n')
  t.equal((await run('agents list')).stdout, 'AGENT  MAY SERVE  LABELS  STATE\nweb-1  app                active\nweb-2  app                active\n')
  t.match(JSON.parse((await run('agents list --json')).stdout), [{ id: 'web-1', services: ['app'] }, { id: 'web-2', services: ['app'] }])
  t.match((await run('sessions list')).stdout, /^SESSION +AGENT +FROM +CHANNEL +SERVES +EXCHANGES +SENT +RECEIVED +ROUND TRIP +AGE\n$/)
  t.match(await run('services remove app'), { code: 1, stderr: 'postern-gateway: agents may serve it: web-1, web-2\n' })
  t.equal((await run('agents remove web-1')).stdout, 'agent web-1 is gone\n')
  t.match(await run('agents remove web-1'), { code: 1, stderr: 'postern-gateway: there is no agent web-1\n' })
  t.equal((await run('services remove wiki')).stdout, 'service wiki is gone\n')
  t.notOk(route('wiki.test'))
  t.notOk(added.stdout.trim() !== '' && gateway.logs().includes(added.stdout.trim()))
  t.equal(await gateway.stop(), 0)
})

t.test('without public_url an agent needs --url, and nothing is left of one that lacked it', async (t) => {
  const run = commandsOf(folders(t))
  t.match(await run('agents add a --service s --host s.test'), { code: 1, stderr: /set public_url, or say url/ })
  t.equal((await run('services list')).stdout, 'SERVICE  HOSTS  PREFIXES  LABELS  POLICY\n')
  t.equal((await run('agents add a --service s --host s.test --url http://edge.test')).code, 0)
})

t.test('while none runs: the command opens the store itself, and the gateway that comes finds what it wrote', async (t) => {
  const gateway = await startGateway(t)
  t.equal(await gateway.stop(), 0)
  const run = commandsOf(gateway)
  const added = await run('agents add a --service s --host s.test --url http://edge.test')
  t.equal(added.code, 0)
  t.match(await run('exchanges list --follow'), { code: 4, stdout: '', stderr: 'postern-gateway: no gateway runs here that could be followed\n' })
  t.match(await run('exchanges list --follow --limit 5'), { code: 2, stderr: 'postern-gateway: --follow goes with neither --uuid nor --limit\n' })
  await gateway.restart()
  t.match(readFileSync(join(gateway.runDir, 'routes/s.test'), 'utf8'), /^1 away h1 s -\n$/)
  t.match(await run('agents list'), { stdout: /^a +s +active$/m })
  const key = decodeJoin(added.stdout).key
  t.equal(decodeJoin((await run('agents add b --service s --url http://edge.test')).stdout).key, key, 'it is the same gateway')
})

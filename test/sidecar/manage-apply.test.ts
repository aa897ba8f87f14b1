// What is to be there, as a file: applied, it is so, with the difference shown; exported, it is the same file; and the other commands on the same resources.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { decodeJoin } from '../../protocol/join.ts'
import { startGateway } from '../harness/gateway.ts'
import { commandsOf, folders } from './commands.ts'

const FILE = `
settings:
  connections: 2
services:
  shop:
    hosts: [Shop.test, +.shop.test]
    policy: { methods: [GET, HEAD], rate: { service: { per_second: 100, burst: 200 } } }
  wiki: { hosts: [wiki.test], prefixes: [/w], labels: [site=berlin] }
agents:
  web-1: { services: [wiki, shop] }
  web-2: { labels: [site=berlin], expires_at: 2099-01-01T00:00:00Z }
`

t.test('a file is applied, again without a difference, changed, and exported as what it was', async (t) => {
  const gateway = await startGateway(t, { settings: { public_url: 'https://edge.test' } })
  const run = commandsOf(gateway)
  const dir = t.testdir({ 'a.yaml': FILE, 'b.yaml': FILE.replace('[GET, HEAD]', '[GET]').replace(/ {2}wiki:.*\n/, '  other: { hosts: [wiki.test], prefixes: [/w] }\n').replace('[wiki, shop]', '[other]').replace(/ {2}web-2.*\n/, '') })
  const dry = await run(`apply -f ${dir}/a.yaml --dry-run`)
  t.same(dry, { code: 0, stdout: '~ settings\n    connections: not set → 2\n+ service shop\n+ service wiki\n+ agent web-1\n+ agent web-2\n', stderr: '' })
  t.equal((await run('services list --json')).stdout, '[]\n', 'and nothing was done')
  const done = await run(`apply -f ${dir}/a.yaml`)
  const [, word] = /\+ agent web-1\n {2}(pj1_\S+)\n/.exec(done.stdout)!
  t.match(decodeJoin(word!), { id: 'web-1', url: 'https://edge.test' })
  t.ok(existsSync(join(gateway.runDir, 'routes/shop.test')))
  t.same(await run(`apply -f ${dir}/a.yaml`), { code: 0, stdout: 'nothing is to be changed\n', stderr: '' })
  const exported = (await run('export')).stdout
  t.same(parse(exported), {
    settings: { connections: 2 },
    services: {
      shop: { hosts: ['shop.test', '+.shop.test'], policy: { methods: ['GET', 'HEAD'], rate: { service: { per_second: 100, burst: 200 } } } },
      wiki: { hosts: ['wiki.test'], prefixes: ['/w'], labels: ['site=berlin'] },
    },
    agents: { 'web-1': { services: ['shop', 'wiki'] }, 'web-2': { labels: ['site=berlin'], expires_at: '2099-01-01T00:00:00.000Z' } },
  })
  writeFileSync(join(dir, 'c.yaml'), exported)
  t.equal((await run(`apply -f ${dir}/c.yaml`)).stdout, 'nothing is to be changed\n')

  t.match(await run(`apply -f ${dir}/b.yaml`), { code: 1, stderr: /services\.other: wiki\.test\/w belongs to service wiki/ }, 'what is taken is said')
  const moved = await run(`apply -f ${dir}/b.yaml --prune`)
  t.match(moved, { code: 0, stdout: /\+ service other\n/ }, 'with --prune the place is given up first')
  t.match(moved.stdout, /- service wiki\n/)
  t.match((await run('agents list')).stdout, /^AGENT.*\nweb-1 +other +active\n$/)
  t.equal((await run(`apply -f ${dir}/b.yaml --prune`)).stdout, 'nothing is to be changed\n')
  t.match((await run('history list --kind service_deleted')).stdout, /service_deleted +services\/wiki +owner/)
})

t.test('a file that is wrong says where, and nothing of it is done', async (t) => {
  const dirs = folders(t)
  const run = commandsOf(dirs)
  const dir = t.testdir({ 'no.yaml': 'service: {}', 'list.yaml': 'services: [a]', 'yaml.yaml': 'services: {', 'half.yaml': 'services: { good: { hosts: [good.test] }, bad: { hosts: [bad.test], colour: red } }' })
  t.match(await run(`apply -f ${dir}/no.yaml`), { code: 2, stderr: /service is none of settings, services, agents/ })
  t.match(await run(`apply -f ${dir}/list.yaml`), { code: 2, stderr: /services should be names/ })
  t.match(await run(`apply -f ${dir}/yaml.yaml`), { code: 2 })
  t.match(await run(`apply -f ${dir}/none.yaml`), { code: 2, stderr: /ENOENT/ })
  t.match(await run(`apply -f ${dir}/half.yaml`), { code: 1, stderr: /services\.bad\.colour is not known here/ })
  t.notMatch((await run('services list')).stdout, /good/, 'nothing of a file that is refused is done')
})

t.test('each resource has its commands, and a table or JSON', async (t) => {
  const gateway = await startGateway(t, { settings: { public_url: 'https://edge.test' } })
  const run = commandsOf(gateway)
  t.equal((await run('services add s --host s.test --rule methods=[GET] --origin http://localhost:3000')).code, 0)
  t.equal((await run('services set s --rule body_max_bytes=1000 --label gpu')).stdout, 'service s is changed\n')
  t.match(JSON.parse((await run('services show s')).stdout), { hosts: ['s.test'], labels: ['gpu'], origin: 'http://localhost:3000', policy: { methods: ['GET'], body_max_bytes: 1_000 } })
  t.match(await run('services set s --rule methods=GET'), { code: 1, stderr: /policy\.methods/ })
  t.equal((await run('services set s --rule methods=')).code, 0)
  t.same((JSON.parse((await run('services show s')).stdout) as { policy: object }).policy, { body_max_bytes: 1_000 })
  const first = decodeJoin((await run('agents add a --label gpu --setting connections=3 --expires 2099-01-01')).stdout)
  t.match(JSON.parse((await run('agents show a')).stdout), { labels: ['gpu'], settings: { connections: 3 }, expires_at: '2099-01-01T00:00:00.000Z' })
  t.not(decodeJoin((await run('agents rotate a')).stdout).secret, first.secret)
  t.match((await run('agents set a --disable --expires never')).stdout, 'agent a is changed\n')
  t.match((await run('agents list')).stdout, /^a +gpu +disabled$/m)
  t.equal((await run('agents revoke a')).stdout, 'agent a is revoked\n')
  t.match(await run('agents set b --enable'), { code: 1, stderr: 'postern-gateway: there is no agent b\n' })
  t.match(await run('agents set a --expires soon'), { code: 2, stderr: /"soon" is neither a date nor never/ })
  t.equal((await run('settings set connections=2 channels=[websocket,sse]')).code, 0)
  t.equal((await run('settings show')).stdout, 'SETTING      VALUE\nconnections  2\nchannels     ["websocket","sse"]\n')
  t.match(await run('settings set colour=red'), { code: 1, stderr: /colour/ })
  t.match((await run('tokens add ci --scope read')).stdout, /^pt1_/)
  const [, id] = /^([0-9a-f]{16}) +ci +read +never$/m.exec((await run('tokens list')).stdout)!
  t.equal((await run(`tokens remove ${id!}`)).stdout, `token ${id!} is gone\n`)
  t.match((await run('routes list')).stdout, /^s\.test +\/ +s +away$/m)
  t.match((await run('exchanges list')).stdout, /^AT +SERVICE/)
  t.match(await run(`sessions disconnect ${'0'.repeat(32)}`), { code: 1, stderr: /there is no session/ })
})

t.test('a backup is a store that a gateway starts from, with the gateway running and without', async (t) => {
  const gateway = await startGateway(t)
  const run = commandsOf(gateway)
  await run('services add s --host s.test')
  const dirs = folders(t)
  mkdirSync(dirs.stateDir, { recursive: true })
  const copy = join(dirs.stateDir, 'postern.db')
  t.same(await run(`backup ${copy}`), { code: 0, stdout: `${copy} is there\n`, stderr: '' })
  t.equal(statSync(copy).mode & 0o777, 0o600)
  t.match(await run(`backup ${copy}`), { code: 1, stderr: /EEXIST/ })
  await run('services remove s')
  t.match((await commandsOf(dirs)('services list')).stdout, /^s +s\.test/m)
  await gateway.stop()
  t.equal((await run(`backup ${copy}-2`)).code, 0)
  t.ok(readFileSync(`${copy}-2`).subarray(0, 15).equals(Buffer.from('SQLite format 3')))
})

t.test('the completion knows commands and their options', (t) => {
  const main = join(import.meta.dirname, '../../sidecar/main.ts')
  const script = (shell: string): string => execFileSync(process.execPath, [main, 'completion', shell], { encoding: 'utf8' })
  const complete = (...words: string[]): string[] => {
    const asked = `${script('bash')}\nCOMP_WORDS=(postern-gateway ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${String(words.length)}; _postern_gateway; echo "\${COMPREPLY[*]}"`
    return execFileSync('bash', ['-c', asked], { encoding: 'utf8' }).trim().split(' ')
  }
  t.same(complete('se'), ['services', 'sessions', 'settings'])
  t.same(complete('agents', 're'), ['revoke', 'remove'])
  t.same(complete('agents', 'add', 'x', '--ser'), ['--service'])
  t.same(complete('apply', '--dry'), ['--dry-run'])
  t.same(complete('start', '--control-h'), ['--control-hosts'])
  t.match(script('zsh'), /^autoload -U \+X bashcompinit/)
  t.end()
})

// The command line of postern-gateway: what it reads, what it refuses with exit code 2, and what it says then.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { COMMANDS, HELP, readCommand } from '../../sidecar/command.ts'
import { SETTINGS } from '../../sidecar/settings.ts'

const MAIN = join(import.meta.dirname, '../../sidecar/main.ts')

function run(...args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], (error, stdout, stderr) => resolve({ code: error === null ? 0 : error.code, stdout, stderr }))
  })
}

t.test('commands are read into what is to be done', (t) => {
  const bare = { args: [], given: {}, file: undefined, flags: {}, json: false }
  t.same(readCommand(['start', '-c', 'x.yaml', '--run-dir', '/r', '--drain-ms=5']), { ...bare, command: 'start', file: 'x.yaml', flags: { run_dir: '/r', drain_ms: '5' } })
  t.same(readCommand(['agents', 'add', 'a', '--service', 's', '--host', 'h', '--host', 'i', '--prefix', '/p', '--url', 'https://u']), {
    ...bare, command: 'agents add', args: ['a'], given: { service: ['s'], host: ['h', 'i'], prefix: ['/p'], url: 'https://u' },
  })
  t.same(readCommand(['services', 'add', 's', '--host', 'h', '--conceal', '--trailers']), { ...bare, command: 'services add', args: ['s'], given: { host: ['h'], conceal: true, trailers: true } })
  t.same(readCommand(['agents', 'remove', 'a']), { ...bare, command: 'agents remove', args: ['a'] })
  t.same(readCommand(['sessions', 'list', '--json']), { ...bare, command: 'sessions list', json: true })
  t.same(readCommand(['settings', 'set', 'a=1', 'b=2']), { ...bare, command: 'settings set', args: ['a=1', 'b=2'] })
  t.same(readCommand(['apply', '-f', 'x.yaml', '--dry-run']), { ...bare, command: 'apply', given: { file: 'x.yaml', 'dry-run': true } })
  t.same(readCommand(['nginx', '--out', 'd']), { ...bare, command: 'nginx', given: { out: 'd' } })
  for (const args of [['--help'], ['-h'], ['help'], ['agents', 'add', '--help']]) t.equal(readCommand(args), 'help')
  for (const args of [['--version'], ['-V'], ['version']]) t.equal(readCommand(args), 'version')
  t.end()
})

t.test('what can not be meant is refused with what would be right', (t) => {
  const wrong: [string, RegExp][] = [
    ['', /what is to be done/],
    ['stat', /"stat" is no command/],
    ['agents', /"agents" is no command/],
    ['agents ad a --service s', /"agents ad" is no command/],
    ['stat --service s', /"stat" is no command/],
    ['start now', /start takes no "now"/],
    ['start --service s', /start takes no --service/],
    ['start --rundir /x', /--rundir/],
    ['start --drain-ms', /argument missing/],
    ['start --json=yes', /does not take an argument/],
    ['agents add', /needs --service NAME/],
    ['agents add a', /needs --service NAME, or --label/],
    ['agents add --service s', /takes one id/],
    ['agents add a b --service s', /takes one id/],
    ['agents add a --service s --service t --host h', /go with one --service/],
    ['agents add a --service s --prefix /p', /--prefix needs --host/],
    ['agents add a --service s --conceal', /takes no --conceal/],
    ['agents remove', /takes one id/],
    ['agents list a', /takes no "a"/],
    ['agents list --out x', /takes no --out/],
    ['services add s', /needs --host HOST/],
    ['services remove s t', /takes one name/],
    ['agents set a --disable --enable', /either --disable or --enable/],
    ['tokens add ci', /needs --scope SCOPE/],
    ['settings set', /takes KEY=VALUE/],
    ['apply', /needs -f FILE/],
    ['apply -f x y', /takes no "y"/],
    ['history list --limit x', /--limit takes a number/],
    ['completion fish', /takes bash or zsh/],
    ['nginx', /needs --out DIR/],
    ['nginx --out d e', /takes no "e"/],
  ]
  for (const [line, says] of wrong) t.throws(() => readCommand(line.split(' ').filter((word) => word !== '')), { name: 'SettingsError', message: says }, line)
  t.end()
})

t.test('the help names every command and every setting', (t) => {
  for (const name of Object.keys(SETTINGS)) t.match(HELP, `--${name.replaceAll('_', '-')} `)
  for (const command of Object.keys(COMMANDS)) t.match(HELP, `  ${command} `)
  t.end()
})

t.test('as a process: usage and configuration end with 2 and one line on stderr', async (t) => {
  const yaml = t.testdir({ 'bad.yaml': 'drain_sm: 5\n', 'good.yaml': 'drain_ms: 5\n' })
  const [help, version, unknown, odd, badFile, badGroup, check, start] = await Promise.all([
    run('--help'),
    run('--version'),
    run('stat'),
    run('start\u001b[31m\nforged'),
    run('check', '-c', join(yaml, 'bad.yaml')),
    run('check', '--socket-group', 'no-such-group'),
    run('check', '-c', join(yaml, 'good.yaml')),
    run('start', '--drain-ms', 'soon'),
  ])
  t.same([help.code, help.stdout], [0, HELP])
  t.equal(version.code, 0)
  t.match(version.stdout, /^\d+\.\d+\.\d+\n$/)
  t.same(unknown, { code: 2, stdout: '', stderr: 'postern-gateway: "stat" is no command. Try postern-gateway --help\n' })
  t.equal(odd.code, 2)
  t.match(odd.stderr, /^[ -~]+\n$/, 'nothing of it can turn a terminal')
  t.equal(badFile.code, 2)
  t.match(badFile.stderr, /drain_sm is no setting; did you mean drain_ms\?\n$/)
  t.same(badGroup, { code: 2, stdout: '', stderr: 'postern-gateway: socket_group: there is no group no-such-group\n' })
  t.equal(check.code, 0)
  t.match(check.stdout, /^drain_ms: 5$/m)
  t.equal(start.code, 2)
})

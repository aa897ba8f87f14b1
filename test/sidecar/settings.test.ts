// The settings: which of flag, variable and file counts, what each refuses and says, and what a file may hold.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { addressOf, groupId, readSettings, type SettingName, SETTINGS, SettingsError } from '../../sidecar/settings.ts'

const NAMES = Object.keys(SETTINGS) as SettingName[]

function file(t: { testdir(): string }, text: string): string {
  const path = join(t.testdir(), 'gateway.yaml')
  writeFileSync(path, text)
  return path
}

/** What it says of a value that came by a flag. */
function said(name: SettingName, value: string): string {
  try {
    readSettings({ [name]: value }, {}, undefined)
    return 'taken'
  } catch (error) {
    return error instanceof SettingsError ? error.message : `no SettingsError: ${String(error)}`
  }
}

t.test('without a word from anybody each has its default, and the defaults agree with each other', (t) => {
  const settings = readSettings({}, {}, undefined)
  for (const name of NAMES) t.equal(settings[name], SETTINGS[name].otherwise, name)
  t.same(readSettings({}, {}, file(t, '# nothing but a comment\n')), settings)
  t.end()
})

t.test('a flag goes before a variable, a variable before the file, the file before the default', (t) => {
  const path = file(t, 'drain_ms: 1\ngrace_ms: 2\nhandshake_ms: 300\npublic_url: https://edge.test\n')
  const env = { POSTERN_DRAIN_MS: '10', POSTERN_GRACE_MS: '20', POSTERN_UNKNOWN: 'of somebody else' }
  const settings = readSettings({ drain_ms: '100' }, env, path)
  t.match(settings, { drain_ms: 100, grace_ms: 20, handshake_ms: 300, public_url: 'https://edge.test', head_timeout_ms: 60_000 })
  t.end()
})

t.test('who said it wrong is named, with what it should be', (t) => {
  const path = file(t, 'lanes_max_count: many\n')
  t.throws(() => readSettings({}, {}, path), { name: 'SettingsError', message: `${path}: lanes_max_count: it should be a whole number from 1 to 16` })
  t.throws(() => readSettings({}, { POSTERN_LANES_MAX_COUNT: '' }, path), { message: 'POSTERN_LANES_MAX_COUNT: it should be a whole number from 1 to 16' })
  t.throws(() => readSettings({ lanes_max_count: '17' }, { POSTERN_LANES_MAX_COUNT: '' }, path), { message: '--lanes-max-count: it should be a whole number from 1 to 16' })
  t.end()
})

t.test('numbers are whole and within their bounds', (t) => {
  for (const name of NAMES.filter((one) => typeof SETTINGS[one].otherwise === 'number')) {
    const [least, most] = /from (\d+) to (\d+)/.exec(said(name, 'x'))!.slice(1).map(Number)
    t.equal(said(name, String(least! - 1)).startsWith(`--${name.replaceAll('_', '-')}: it should be`), true, `${name} below`)
    t.match(said(name, String(most! + 1)), /it should be/, `${name} above`)
    for (const value of ['', '-1', '1.5', '1e3', '0x10', ' 5', '5 ', 'Infinity', '9'.repeat(16)]) t.match(said(name, value), /it should be/, `${name} ${JSON.stringify(value)}`)
  }
  t.throws(() => readSettings({}, {}, file(t, 'drain_ms: 1.5\n')), /whole number/)
  t.throws(() => readSettings({}, {}, file(t, 'drain_ms: [1]\n')), /whole number/)
  t.throws(() => readSettings({}, {}, file(t, 'drain_ms: true\n')), /whole number/)
  t.end()
})

t.test('texts are what they have to be', (t) => {
  const wrong: [SettingName, string[]][] = [
    ['run_dir', ['', 'run/postern', './x', `/${'x'.repeat(91)}`, `/${'ü'.repeat(46)}`, '/a\0b']],
    ['state_dir', ['', 'state', '/a\0b']],
    ['public_url', ['', 'edge.test', 'ftp://edge.test', 'https://', 'https:///x', 'https://edge.test/?a', 'https://edge.test/#a', 'https://a b', 'http://[', 'http://a:99999']],
    ['public_url', ['tcp://edge.test', 'tls://edge.test:1/path', 'tls://u@edge.test:1', 'tls://edge.test:99999', 'ssh://edge.test:22']],
    ['agents_address', ['', '8442', ':8442', 'edge.test', 'edge.test:', 'edge.test:65536', '::1:8442', '[::1]', 'a b:1', 'http://a:1']],
    ['agents_tls_cert', ['', 'cert.pem', '/a\0b']],
    ['socket_group', ['', '0', 'a b', '../x', 'a:b']],
    ['policy', ['', 'sometimes', 'ALWAYS']],
  ]
  for (const [name, values] of wrong) for (const value of values) t.match(said(name, value), /^--[a-z-]+: it should be /, `${name} ${JSON.stringify(value)}`)
  const right: [SettingName, string[]][] = [
    ['run_dir', [`/${'x'.repeat(90)}`]],
    ['public_url', ['http://127.0.0.1:8080/behind/a/path', 'tls://edge.test:8443']],
    ['agents_address', ['0.0.0.0:8442', '[::]:0', 'edge.test:65535']],
    ['socket_group', ['www-data']],
    ['policy', ['never']],
  ]
  for (const [name, values] of right) for (const value of values) t.equal(said(name, value), 'taken', value)
  t.throws(() => readSettings({}, {}, file(t, 'run_dir: 5\n')), /absolute path/)
  t.end()
})

t.test('a channel may not be dead before it had to give a sign of life', (t) => {
  t.match(said('dead_after_ms', '10000'), /dead_after_ms: 10000 should be more than heartbeat_ms, which is 10000/)
  t.equal(said('dead_after_ms', '10001'), 'taken')
  t.end()
})

t.test('a port with TLS needs a certificate and its key', (t) => {
  t.match(said('agents_tls_address', '127.0.0.1:8443'), 'agents_tls_address needs agents_tls_cert and agents_tls_key')
  const files = { agents_tls_cert: '/c.pem', agents_tls_key: '/k.pem' }
  t.match(readSettings({ agents_tls_address: '[::1]:8443', ...files }, {}, undefined), files)
  t.same(addressOf('[::1]:8443'), { host: '::1', port: 8443 })
  t.end()
})

t.test('a key that is no setting is refused, with the one that was meant', (t) => {
  t.throws(() => readSettings({}, {}, file(t, 'publik_url: https://x\n')), /: publik_url is no setting; did you mean public_url\?$/)
  t.throws(() => readSettings({}, {}, file(t, 'something: 1\n')), /: something is no setting; there are run_dir, state_dir, /)
  t.throws(() => readSettings({}, {}, file(t, 'run-dir: /x\n')), /did you mean run_dir/)
  t.throws(() => readSettings({}, {}, file(t, '__proto__: 1\n')), /__proto__ is no setting/)
  t.throws(() => readSettings({}, {}, file(t, 'constructor: 1\n')), /constructor is no setting/)
  t.end()
})

t.test('a file that is no settings is refused by name', (t) => {
  for (const [text, says] of [
    ['a: b: c\n', /gateway\.yaml: .+line 1/s],
    ['drain_ms: 1\ndrain_ms: 2\n', /unique/],
    ['- drain_ms\n', /holds no settings/],
    ['just words\n', /holds no settings/],
    ['run_dir: &a /x\nstate_dir: *a\n', /aliases are not allowed/],
    ['run_dir: *nowhere\n', /aliases are not allowed/],
    [`# ${'x'.repeat(1_048_576)}\n`, /too large/],
  ] as const) t.throws(() => readSettings({}, {}, file(t, text)), { name: 'SettingsError', message: says })
  t.throws(() => readSettings({}, {}, join(t.testdir(), 'missing.yaml')), { name: 'SettingsError', message: /missing\.yaml: ENOENT/ })
  t.throws(() => readSettings({}, {}, t.testdir()), { name: 'SettingsError', message: /EISDIR/ })
  t.same(readSettings({}, {}, file(t, 'drain_ms:\n')).drain_ms, 30_000, 'a key with nothing behind it is as if it were not there')
  t.end()
})

t.test('a group is found by its whole name', (t) => {
  t.equal(groupId('root'), 0)
  for (const name of ['roo', 'root:x', 'no-such-group', 'r.*t']) t.throws(() => groupId(name), { name: 'SettingsError', message: `socket_group: there is no group ${name}` })
  t.end()
})

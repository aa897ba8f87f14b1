// postern.yaml is read to the last key, and what is wrong with it is named.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readAgentFile, readConnections, SettingsError } from '../../agent/settings.ts'

t.test('a configuration is checked to the last key', (t) => {
  const good = 'join_file: /etc/join\ngateway: tls://gw:1\nchannel: tcp\npipe: ssh edge\nconnections: 4\n' +
    'services:\n  demo: 3000\n  shop: { target: "https://localhost:8443", host_header: shop.local, insecure_origin: true, health: { kind: http, path: /up, healthy_after: 1 } }\n' +
    '  still: { target: 1, health: false }\ntargets: [ "unix:/run/app", 9000 ]\n'
  const cases: readonly (readonly [string, RegExp])[] = [
    [`${good}colour: red\n`, /`colour` is no setting/],
    ['services:\n  demo: { target: 3000, port: 1 }\n', /`services\.demo\.port` is no setting/],
    ['services:\n  Demo: 3000\n', /services\.Demo/],
    ['services:\n  demo: nonsense\n', /no port/],
    ['services: {}\n', /nothing to serve/],
    ['services: 3\n', /must name/],
    ['services:\n  demo: {}\n', /no target/],
    ['policy: perhaps\nservices:\n  demo: 1\n', /always or never/],
    ['join: 3\nservices:\n  demo: 1\n', /`join` is no text/],
    ['insecure_origin: perhaps\nservices:\n  demo: 1\n', /true or false/],
    ['connections: 0\nservices:\n  demo: 1\n', /from 1 to 16/],
    ['connections: many\nservices:\n  demo: 1\n', /from 1 to 16/],
    ['gateway: 3\nservices:\n  demo: 1\n', /`gateway` is no text/],
    ['targets: 3000\n', /`targets` is no list/],
    ['targets: [3000, nonsense]\n', /`targets`, number 2: .*no port/],
    ['targets: []\n', /nothing to serve/],
    ['services:\n  demo: { target: 3000, health: true }\n', /`health` is no mapping/],
    ['services:\n  demo: { target: 3000, health: { path: /x } }\n', /`health\.kind` is http or tcp/],
    ['services:\n  demo: { target: 3000, health: { kind: http, path: x } }\n', /`health\.path` is out of its range/],
    ['services:\n  demo: { target: 3000, health: { kind: tcp, interval_ms: 1 } }\n', /`health\.interval_ms` is out of its range/],
    ['services:\n  demo: { target: 3000, health: { kind: tcp, colour: red } }\n', /`health\.colour` is no setting/],
    ['a: [\n', /postern\.yaml/],
    ['services: &s\n  demo: *s\n', /postern\.yaml/],
    ['', /no settings/],
  ]
  const file = join(t.testdir(), 'postern.yaml')
  for (const [text, says] of cases) {
    writeFileSync(file, text)
    t.throws(() => readAgentFile(file, 'linux'), says)
    t.throws(() => readAgentFile(file, 'linux'), SettingsError)
  }
  writeFileSync(file, good)
  const { joinFile, services, targets, ...way } = readAgentFile(file, 'linux')
  t.match(way, { gateway: 'tls://gw:1', channel: 'tcp', pipe: 'ssh edge', connections: 4 })
  t.equal(joinFile, '/etc/join')
  t.match(services.get('demo'), { target: { origin: 'http://localhost:3000' }, verifyTls: true })
  t.match(services.get('shop'), { target: { origin: 'https://localhost:8443' }, hostHeader: 'shop.local', verifyTls: false, health: { kind: 'http', path: '/up', healthy_after: 1 } })
  t.equal(services.get('still')?.health, 'none')
  t.same(targets.map(({ target }) => target.text), ['unix:/run/app', 'http://localhost:9000'])
  t.end()
})

t.test('connections are a whole number from 1 to 16', (t) => {
  for (const [value, count] of [['1', 1], ['16', 16], [4, 4], ['04', 4]] as const) t.equal(readConnections(value), count)
  for (const value of ['0', '17', '1e1', '-1', '1.5', '', ' 1', 'x', 0, 17, 1.5, Number.NaN, null, true, ['1']]) t.throws(() => readConnections(value), SettingsError, String(value))
  t.end()
})

// postern.yaml is read to the last key, and what is wrong with it is named.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readAgentFile, SettingsError } from '../../agent/settings.ts'

t.test('a configuration is checked to the last key', (t) => {
  const good = 'join_file: /etc/join\nservices:\n  demo: 3000\n  shop: { target: "https://localhost:8443", host_header: shop.local, insecure_origin: true }\n'
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
  const { joinFile, services } = readAgentFile(file, 'linux')
  t.equal(joinFile, '/etc/join')
  t.match(services.get('demo'), { target: { origin: 'http://localhost:3000' }, verifyTls: true })
  t.match(services.get('shop'), { target: { origin: 'https://localhost:8443' }, hostHeader: 'shop.local', verifyTls: false })
  t.end()
})

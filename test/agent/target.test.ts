// Targets as people type them are understood, and others are refused with words that help.
import t from 'tap'
import { parseTarget, TargetError } from '../../agent/target.ts'

const RIGHT: readonly (readonly [string, string, string | undefined])[] = [
  ['3000', 'http://localhost:3000', undefined],
  [':3000', 'http://localhost:3000', undefined],
  [' 8080 ', 'http://localhost:8080', undefined],
  ['host:9000', 'http://host:9000', undefined],
  ['localhost:80', 'http://localhost', undefined],
  ['10.0.0.7:5000', 'http://10.0.0.7:5000', undefined],
  ['[::1]:5000', 'http://[::1]:5000', undefined],
  ['https://localhost:8443', 'https://localhost:8443', undefined],
  ['https://shop.local', 'https://shop.local', undefined],
  ['http://[::1]:80/', 'http://[::1]', undefined],
  ['HTTP://Host:81', 'http://host:81', undefined],
  ['unix:/run/app.sock', 'http://localhost', '/run/app.sock'],
]

const WRONG: readonly (readonly [string, RegExp])[] = [
  ['', /empty/],
  ['host', /no port/],
  ['70000', /at most 65535/],
  ['0', /port 0/],
  ['host:70000', /at most 65535/],
  ['ftp://host', /only http and https/],
  ['http://host:80/app', /a path does not belong here/],
  ['http://host/?a=1', /a path does not belong here/],
  ['http://user:pass@host', /name and password/],
  ['http://', /can not be read/],
  ['ho st:80', /can not be read/],
  ['unix:app.sock', /begins with \//],
  ['[::1:80', /can not be read/],
]

for (const [typed, origin, socketPath] of RIGHT) {
  t.test(`${JSON.stringify(typed)} is a target`, (t) => {
    const target = parseTarget(typed, 'linux')
    t.equal(target.origin, origin)
    t.equal(target.socketPath, socketPath)
    t.equal(target.tls, origin.startsWith('https:'))
    t.end()
  })
}

for (const [typed, says] of WRONG) {
  t.test(`${JSON.stringify(typed)} is no target`, (t) => {
    t.throws(() => parseTarget(typed, 'linux'), says)
    t.throws(() => parseTarget(typed, 'linux'), TargetError)
    t.end()
  })
}

t.test('ports that a scheme implies are known', (t) => {
  t.match(parseTarget('https://shop.local', 'linux'), { port: 443, hostname: 'shop.local' })
  t.match(parseTarget('http://[::1]:80/', 'linux'), { port: 80, hostname: '::1' })
  t.end()
})

t.test('on Windows unix: takes a named pipe and nothing else', (t) => {
  t.equal(parseTarget('unix:\\\\.\\pipe\\app', 'win32').socketPath, '\\\\.\\pipe\\app')
  t.throws(() => parseTarget('unix:/run/app.sock', 'win32'), /named pipes/)
  t.end()
})

// The units for systemd: right by systemd's own check, hardened by its own measure, and in agreement with what the gateway expects of its sockets.
import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { SETTINGS } from '../../sidecar/settings.ts'
import { inherited, SOCKETS } from '../../sidecar/sockets.ts'

const UNITS = join(import.meta.dirname, '../../sidecar/systemd')
const SERVICE = 'postern-gateway.service'
const exec = promisify(execFile)
const missing = spawnSync('systemd-analyze', ['--version']).status === 0 ? false : 'there is no systemd-analyze here'
/** Of systemd-analyze security, times ten: up to 1.0 it calls a service SAFE. */
const EXPOSURE_MAX = 10

const unit = (name: string): string => readFileSync(join(UNITS, name), 'utf8')
/** All values of a directive. */
const values = (text: string, name: string): string[] => [...text.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map((match) => match[1]!)

/** The units with a command that is there: systemd-analyze looks for it. */
function copied(t: { testdir(): string }): string {
  const dir = t.testdir()
  cpSync(UNITS, dir, { recursive: true })
  const command = join(dir, 'postern-gateway')
  writeFileSync(command, '#!/bin/sh\n')
  chmodSync(command, 0o755)
  writeFileSync(join(dir, SERVICE), unit(SERVICE).replace('ExecStart=postern-gateway', `ExecStart=${command}`))
  return dir
}

t.test('there is one socket unit for each socket, by its name, with its path and mode, and the service asks for each', (t) => {
  const units = readdirSync(UNITS).filter((name) => name.endsWith('.socket') && !name.endsWith('-port.socket'))
  const service = unit(SERVICE)
  const runDir = SETTINGS.run_dir.otherwise
  t.same(units.flatMap((name) => values(unit(name), 'FileDescriptorName')).sort(), Object.keys(SOCKETS).sort())
  for (const name of units) {
    const text = unit(name)
    const [socket] = values(text, 'FileDescriptorName') as (keyof typeof SOCKETS)[]
    t.same(values(text, 'ListenStream'), [`${String(runDir)}/${socket!}.sock`], name)
    t.same(values(text, 'SocketMode'), [`0${SOCKETS[socket!].toString(8)}`], name)
    t.same(values(text, 'Service'), [SERVICE], name)
    t.equal(values(text, 'SocketGroup').length, socket === 'control' ? 0 : 1, name)
  }
  for (const directive of ['Requires', 'After', 'Sockets', 'Also']) t.same(values(service, directive)[0]!.split(' ').sort(), [...units].sort(), directive)
  t.same(values(service, 'StateDirectory'), [String(SETTINGS.state_dir.otherwise).replace('/var/lib/', '')])
  t.same(values(service, 'RuntimeDirectory'), [`${String(runDir).replace('/run/', '')}/routes`], 'the folder of the sockets stays root’s')
  t.ok(Number(values(service, 'TimeoutStopSec')[0]) * 1_000 > Number(SETTINGS.drain_ms.otherwise) + 5_000, 'it is not killed while it drains')
  t.end()
})

t.test('a unit for a port of the gateway’s own has the name that the gateway knows, and no other unit asks for it', (t) => {
  const units = readdirSync(UNITS).filter((name) => name.endsWith('-port.socket'))
  for (const name of units) {
    const [port] = values(unit(name), 'FileDescriptorName')
    t.equal(name, `postern-${port!}.socket`)
    t.same([...inherited({ LISTEN_FDS: '1', LISTEN_PID: '7', LISTEN_FDNAMES: port }, 7).keys()], [port])
    t.same(values(unit(name), 'Service'), [SERVICE])
    t.notMatch(unit(SERVICE), name, 'it is open only for who asks for it')
  }
  t.equal(units.length, 2)
  t.end()
})

t.test('systemd finds nothing wrong with them', { skip: missing }, async (t) => {
  const dir = copied(t)
  const { stdout, stderr } = await exec('systemd-analyze', ['verify', ...readdirSync(UNITS).map((name) => join(dir, name))])
  t.notMatch(stdout + stderr, /postern/)
})

t.test('systemd calls the service safe', { skip: missing }, async (t) => {
  const { stdout } = await exec('systemd-analyze', ['security', '--offline=true', `--threshold=${String(EXPOSURE_MAX)}`, join(copied(t), SERVICE)])
  t.match(stdout, /Overall exposure level .* SAFE/)
})

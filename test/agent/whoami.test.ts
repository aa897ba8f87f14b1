// `postern whoami` tells which services and domains an agent has, what came of each, and who set what; what the gateway sets is taken or refused with a reason.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { listCandidates } from '../../agent/candidates.ts'
import { Pushed } from '../../agent/pushed.ts'
import type { StatusDocument } from '../../agent/status-text.ts'
import { whoamiLines } from '../../agent/whoami-text.ts'
import { encodeControl } from '../../protocol/control.ts'
import { runAgent } from '../harness/agent.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { startGate } from './gate.ts'

const MAIN = join(import.meta.dirname, '../../agent/main.ts')

function whoami(home: string, ...args: readonly string[]): string {
  return spawnSync(process.execPath, [MAIN, 'whoami', ...args], { env: { ...process.env, XDG_RUNTIME_DIR: home }, encoding: 'utf8' }).stdout
}

t.test('services, domains, settings and where each is from', async (t) => {
  const gate = await startGate(t)
  const ill = await startOrigin(t, (_request, response) => response.writeHead(503).end())
  const origin = await startOrigin(t)
  const home = mkdtempSync(join(tmpdir(), 'postern-whoami-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const file = join(home, 'postern.yaml')
  writeFileSync(file, `connections: 1\nservices:\n  demo: "${origin.url}"\n  ill: { target: "${ill.url}", health: { kind: http, path: /h } }\n`)
  gate.services = [{ name: 'demo', hosts: ['demo.example', 'www.demo.example'] }, { name: 'ill', hosts: ['ill.example'] }, { name: 'else', hosts: [], origin: 'http://10.0.0.1' }]
  const agent = await runAgent(t, ['start', '-c', file, '--proxy', 'direct'], { join: gate.join, home, env: { POSTERN_POLICY: 'always' } })
  t.match(await agent.event('origin_unhealthy'), { name: 'ill', target: ill.url, reason: 'it answered 503' })
  gate.controlStream!.write(encodeControl({ settings: { connections: 4, channels: ['websocket', 'sse'] } }))
  const says = await until('the agent said what it does not take', () => gate.says.find(({ refused }) => refused.some(({ what }) => what === 'connections')))
  t.same(says, {
    serves: ['demo', 'ill'],
    unhealthy: ['ill'],
    refused: [{ what: 'connections', reason: 'its own file says 1' }, { what: 'else', reason: 'it does not permit the target http://10.0.0.1' }],
  })
  const shown = whoami(home)
  t.match(shown, /^an-agent \(process \d+\) at http/)
  t.match(shown, /^ {2}SERVICE +DOMAINS +TARGET +STATE$/m)
  t.match(shown, /^ {2}demo +demo\.example, www\.demo\.example +http:\S+ +served$/m)
  t.match(shown, /^ {2}ill +ill\.example +http:\S+ +served, but not well: it answered 503$/m)
  t.match(shown, /^ {2}else +- +- +not served: it does not permit the target http:\/\/10\.0\.0\.1$/m)
  t.match(shown, /^ {2}connections +1 +file; the gateway's wish is not followed: its own file says 1$/m)
  t.match(shown, /^ {2}channel +websocket, sse +gateway$/m)
  t.match(shown, /^ {2}proxy +direct +flag$/m)
  t.match(shown, /^ {2}policy +always +environment$/m)
  const [document] = JSON.parse(whoami(home, '--json')) as StatusDocument[]
  t.match(document, { agent: 'an-agent', offers: [{ name: 'demo', serves: true, reason: null }, { name: 'ill', serves: true }, { name: 'else', serves: false, target: null }] })
})

t.test('what the gateway sets counts where the user said nothing', (t) => {
  const candidates = listCandidates({ gateway: 'http://localhost:1' }, {})
  const kinds = (pushed: Pushed): string[] => [...new Set(pushed.allowed.map(({ kind }) => kind))]
  const own = new Pushed({ connections: { value: '2', source: 'flag' }, channel: { value: 'auto', source: 'environment' } }, candidates)
  const free = new Pushed({}, candidates)
  t.equal(free.connections, 1)
  for (const pushed of [own, free]) pushed.take({ connections: 5, channels: ['sse', 'long-poll'] })
  t.same([own.connections, free.connections], [2, 5])
  t.same(kinds(free), ['sse', 'long-poll'])
  t.same(kinds(own), [...new Set(candidates.map(({ kind }) => kind))])
  t.same(own.refused, [{ what: 'connections', reason: 'its own flag says 2' }, { what: 'channels', reason: 'its own environment says auto' }])
  t.same(free.refused, [])
  free.take({ connections: 1_000, channels: ['pigeon'] })
  t.equal(free.connections, 16)
  t.same(free.refused, [{ what: 'channels', reason: 'it has a way for none of these' }])
  t.same(kinds(free), [...new Set(candidates.map(({ kind }) => kind))], 'an agent that no channel is left to would hear of nothing any more')
  free.take({})
  t.match(free.list, [{ name: 'channel', value: 'auto', source: 'default' }, { name: 'connections', value: '1', source: 'default' }, { name: 'policy', source: 'default' }])
  t.end()
})

t.test('a proxy’s password is shown to nobody, and nothing moves a terminal', async (t) => {
  const gate = await startGate(t)
  const origin = await startOrigin(t)
  const home = mkdtempSync(join(tmpdir(), 'postern-whoami-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const agent = await runAgent(t, ['http', origin.url, '--proxy', 'socks5://name:secret@127.0.0.1:1'], { join: gate.join, home, ready: false })
  await agent.event('failed')
  const shown = whoami(home) + whoami(home, '--json')
  t.match(shown, 'socks5://127.0.0.1:1')
  t.notMatch(shown, /secret|name:/)
  const nasty = 'a\nb\u001b[31m\u202e'
  const offers = [{ name: nasty, hosts: [nasty], target: nasty, serves: true, reason: nasty }]
  const settings = [{ name: nasty, value: nasty, source: 'gateway', refused: nasty }] as const
  const lines = whoamiLines({ pid: 1, version: '1', agent: nasty, gateway: nasty, state: 'serving', session: 's', age_ms: 1, since: 's', exchanges: 1, services: [], channels: [], offers, settings })
  for (const line of lines) t.notMatch(line, /[\p{Cc}\p{Cf}]/u)
  t.equal(lines.length, 5)
})

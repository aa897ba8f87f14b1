// What the fuzzer is set on at the gateway's edge: envelopes, heads of requests and answers, route and policy files, and its doorway for agents over real sockets.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { ErrorCode } from '../../protocol/errors.ts'
import { createServerSetup, decoy, ready } from '../../protocol/opaque.ts'
import { AgentsDoor } from '../../sidecar/agents-door.ts'
import { readEnvelope, wrapRequest } from '../../sidecar/envelope.ts'
import { processEnvironment } from '../../sidecar/environment.ts'
import { HttpChannels } from '../../sidecar/http-channels.ts'
import { PlainRoutes } from '../../sidecar/plain-routes.ts'
import { readRequestHead } from '../../sidecar/request-head.ts'
import { checkResponseHead, checkTrailers } from '../../sidecar/response-head.ts'
import { Strangers } from '../../sidecar/strangers.ts'
import type { Target } from './harness.ts'
import { cut } from './wire.ts'

await ready

const ENVELOPE = '1;00112233445566778899aabbccddeeff;demo;203.0.113.9;40000;https;demo.test%3A8443;4711;close%2C%20x-a;103'
const REQUEST = `GET /a?b HTTP/1.1\r\nHost: demo.test\r\nPostern: ${ENVELOPE}\r\nX-A: 1\r\nCookie: a=b`
const POLICY = JSON.stringify({ v: 1, deny: [['0a000000', '0affffff']], methods: ['GET', 'HEAD'], challenge: 'Bearer', tokens: ['ab'.repeat(32)], bodyMaxBytes: 5, https: 308, maintenance: '5 x' })
const PARTS = 4
/** Connecting, speaking and closing. */
const SOCKETS_MAX_MS = 200
/** Between the parts of an input that stands for several texts. */
const BETWEEN = '\x1e'

const PLAIN = new PlainRoutes({ now: () => 0, soon: () => undefined, later: () => () => undefined })
PLAIN.set('demo.test', 'plain')

const request = (bytes: Buffer): void => {
  const head = readRequestHead(bytes.toString('latin1'))
  if ('number' in head) return
  const envelope = readEnvelope(head.envelope)
  if (envelope === undefined) return
  const wrapped = wrapRequest(envelope, PLAIN, head.method, head.target, head.upgrade, head.fields)
  if ('number' in wrapped) return
  // Whatever goes on to an origin is one line a field, and nothing of it was ours to say.
  for (let i = 0; i < wrapped.fields.length; i += 2) {
    const [name, value] = [wrapped.fields[i]!, wrapped.fields[i + 1]!]
    if (!/^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || /[\0-\x08\x0a-\x1f\x7f]/.test(value)) throw new Error(JSON.stringify([name, value]))
    if (/^postern([-_]|$)/i.test(name)) throw new Error(name)
  }
}

const answer = (bytes: Buffer): void => {
  const fields = bytes.toString('latin1').split(BETWEEN)
  if (fields.length % 2 !== 0) fields.pop()
  const head = checkResponseHead(fields, true)
  const trailers = checkTrailers(fields.slice(2))
  for (const list of [typeof head === 'string' ? [] : head.fields, trailers ?? []]) {
    for (let i = 0; i < list.length; i += 2) {
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(list[i]!) || /[\r\n\0]/.test(list[i + 1]!)) throw new Error(JSON.stringify(list.slice(i, i + 2)))
    }
  }
}

/** Not imported by name: its types are those of njs, which Node's do not go with. */
const MODULE = new URL('../../njs/postern.ts', import.meta.url).href

/** nginx's module run by Node: route file, prefixes, policy and path are the input. */
async function routing(t: Test): Promise<Target> {
  const dir = mkdtempSync(join(tmpdir(), 'postern-fuzz-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const { route, body } = ((await import(MODULE)) as { default: Record<'route' | 'body', (r: unknown) => string> }).default
  return {
    name: 'route and policy files',
    seeds: [
      ['1 up h1 demo -\n', '/api 1 up h2 other -\n', POLICY, '/api/x?y'].join(BETWEEN),
      ['1 up h1 demo p\n', '/api 1 up h2 other y\n/api/v1 1 away h1 third c\n', POLICY, '/api/x'].join(BETWEEN),
      ['1 up h1 demo py\n', '/gone 1 none h1 - -\n', '{"v":1}\n', '/'].join(BETWEEN),
      ['1 off h1 demo cy\n', '', '', '/'].join(BETWEEN),
    ],
    run: (bytes) => {
      const parts = bytes.toString('latin1').split(BETWEEN)
      const [main = '', prefixes = '', policy = '', path = '/'] = parts.length > PARTS ? parts.slice(0, PARTS) : parts
      writeFileSync(join(dir, '.mark'), '1\n')
      writeFileSync(join(dir, 'demo.test'), main, 'latin1')
      writeFileSync(join(dir, 'demo.test@prefixes'), prefixes, 'latin1')
      writeFileSync(join(dir, '@policy-demo'), policy, 'latin1')
      const told: string[] = []
      const variables: Record<string, unknown> = { postern_file: join(dir, 'demo.test'), request_uri: path, uri: path.split('?')[0], scheme: 'https', content_length: '3', status: '200' }
      const r = { variables, rawVariables: { binary_remote_addr: Buffer.from([203, 0, 113, 9]) }, headersIn: {}, method: 'GET', error: (line: string) => told.push(line) }
      const decided = route(r)
      variables.postern_route = decided
      body(r)
      if (!/^\d{3}\n[^]*\nProxy-Status\npostern; error=[a-z_]+; details="[a-z_]+"/.test(String(variables.postern_told))) throw new Error(`no code for ${JSON.stringify(decided)}`)
    },
  }
}

/** The gateway's doorway for agents: bytes as they are, upgrades, websocket frames, HTTP/2, http channels. Every connection ends, and says nothing of a fault of ours. */
async function doorway(t: Test): Promise<Target> {
  const times = { heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 }
  const environment = processEnvironment(times, 2 ** 26)
  const faults: string[] = []
  const setup = createServerSetup()
  const gatekeeper = {
    serverSetup: setup,
    decoyRecord: decoy(setup, 'nobody keeps it'),
    recordOf: () => null,
    terms: (): ErrorCode => {
      throw new Error('nobody has a secret')
    },
    sessionById: () => undefined,
    onSession: () => void faults.push('a session'),
    onChannel: () => void faults.push('a channel'),
    onRefused: (_carrier: unknown, code: ErrorCode, detail: string) => void (code.name === 'gateway_fault' && faults.push(detail)),
  }
  const strangers = new Strangers(gatekeeper, environment)
  const door = new AgentsDoor({ entrance: 'port', strangers, environment, takeRequest: new HttpChannels(strangers, environment).take })
  const server = createServer({ allowHalfOpen: true }, (socket) => door.take(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.close()
    door.close()
  })
  const { port } = server.address() as AddressInfo
  const upgrade = 'GET /_postern/channel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n'
  const hello = '\x01\x01\x01\x00\x07agent-1'
  return {
    name: 'the doorway of a gateway',
    maxMs: SOCKETS_MAX_MS,
    seeds: [
      Buffer.from('000006200000000007', 'hex'),
      `${upgrade}Upgrade: postern\r\n\r\n\0\0\x0b${hello}`,
      Buffer.concat([Buffer.from(`${upgrade}Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`), Buffer.from('8286000000002000000000078189000000002f', 'hex')]),
      Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from('000000040000000000' + '00001a010400000001' + '83864188089d5c0b8170dc7c448260d5a9a5a1a1f07a1f7a1f', 'hex')]),
      `POST /_postern/channel/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nPostern-Channel: ${'0'.repeat(32)};0;${'0'.repeat(64)};\r\n\r\n\0\0\x06\x20\0\0\0\0\x07`,
      'POST /_postern/channel/open HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nGET /_postern/channel/events HTTP/1.1\r\nHost: x\r\n\r\n',
    ],
    run: async (bytes, random) => {
      await new Promise<void>((resolve) => {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => undefined).once('close', () => resolve()).resume()
        // What was said is looked at before it is cut off: everything that is heard is heard by then.
        socket.once('connect', () => {
          for (const piece of cut(bytes, random)) socket.write(piece)
          socket.end(() => setImmediate(() => socket.destroy()))
        })
      })
      if (faults.length > 0) throw new Error(faults.splice(0).join('; '))
    },
  }
}

export async function edgeTargets(t: Test): Promise<Target[]> {
  return [
    { name: 'envelopes', seeds: [ENVELOPE, ENVELOPE.replace('demo', '')], run: (bytes) => void readEnvelope(bytes.toString('latin1')) },
    { name: 'heads of requests', seeds: [REQUEST], run: request },
    { name: 'heads of answers', seeds: [[':status', '200', 'Content-Type', 'text/plain', 'Content-Length', '5', 'Connection', 'x-a', 'X-A', '1'].join(BETWEEN), [':status', '101', 'Upgrade', 'websocket'].join(BETWEEN)], run: answer },
    await routing(t),
    await doorway(t),
  ]
}

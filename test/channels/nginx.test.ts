// Every channel that comes through nginx, through each nginx there is, over TLS: messages whole both ways, closes and cuts told, and who came and how.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import tls from 'node:tls'
import type { Dial } from '../../agent/channel-dial.ts'
import { dialHttp2 } from '../../agent/http2.ts'
import { freePort } from '../../dev/free-port.ts'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { CERTIFICATE, KEY } from '../agent/certificate.ts'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { until } from '../harness/until.ts'
import { Random } from '../protocol/simulation.ts'
import { type Edge, type Kind, KINDS, startRig } from './ends.ts'

tls.setDefaultCACertificates([...tls.getCACertificates('default'), CERTIFICATE])

/** What a gateway's socket that went away, or cut a channel, makes nginx say. */
const EXPECTED = [/upstream prematurely closed connection/, /reset by peer/i, /No such file or directory/, /Connection refused/, /upstream sent|upstream rejected/]

interface Nginx extends Edge {
  /** Speaks HTTP/1.1 alone. */
  readonly oldPort: number
  pid(): number
  faults(): string[]
}

async function start(t: Test, binary: Binary): Promise<Nginx> {
  const runDir = mkdtempSync(join(tmpdir(), 'postern-h2-'))
  t.teardown(() => rmSync(runDir, { recursive: true, force: true }))
  const pem = t.testdir({ 'cert.pem': CERTIFICATE, 'key.pem': KEY })
  const [port, oldPort] = [await freePort(), await freePort()]
  const listen = (at: number, http2: boolean): string => {
    if (!http2) return `listen 127.0.0.1:${String(at)} ssl;`
    return binary === 'new' ? `listen 127.0.0.1:${String(at)} ssl; http2 on;` : `listen 127.0.0.1:${String(at)} ssl http2;`
  }
  const server = (at: number, http2: boolean): string => `server { ${listen(at, http2)} ssl_certificate ${pem}/cert.pem; ssl_certificate_key ${pem}/key.pem; include EDGE/postern-agents.conf; }`
  const nginx = await startNginx(t, { runDir, binary, http: `${server(port, true)} ${server(oldPort, false)}`, expected: EXPECTED })
  return { runDir, port, oldPort, pid: () => Number(/start worker process (\d+)/.exec(nginx.logs())?.[1]), faults: () => nginx.logs().split('\n').filter((line) => /\[(error|crit|alert|emerg)\]/.test(line)) }
}

/** As it is dialed through nginx. */
const through = (kind: Kind): Kind => ({ ...kind, entrance: 'socket', options: ({ port }) => ({ gateway: `https://localhost:${String(port)}` }) })
const ofKind = (name: string): Kind => through(Object.values(KINDS).find(({ kind }) => kind === name)!)
const failure = (dial: Dial, gateway: string): Promise<string> => new Promise((resolve) => {
  dial({ gateway, userAgent: 'test' }, (outcome) => {
    if ('reason' in outcome) return resolve(`${outcome.reason}: ${outcome.detail}`)
    outcome.abort()
    resolve('a channel')
  })
})

for (const binary of ['debian', 'new'] as const) {
  t.test(`nginx: ${binary}`, { skip: missing(binary) ?? false }, async (t) => {
    const nginx = await start(t, binary)

    // The first: what tests do at their end leaves traces.
    t.test('http2: close lets what was sent arrive, whichever closes, and nginx has no fault to find', async (t) => {
      const rig = await startRig(t, ofKind('http2'), {}, nginx)
      for (const first of ['agent', 'gateway'] as const) {
        const { agent, gateway } = await rig.join()
        const [closing, other] = first === 'agent' ? [agent, gateway] : [gateway, agent]
        for (let i = 0; i < 50; i++) closing.carrier.send(Buffer.alloc(10_000, i))
        closing.carrier.close()
        await until('both are closed', () => agent.closed.length > 0 && gateway.closed.length > 0)
        t.equal(other.messages.length, 50, `${first} closes`)
        t.same([agent.closed.length, gateway.closed.length], [1, 1])
      }
      t.same(nginx.faults(), [])
    })

    for (const kind of ['websocket', 'http2', 'tcp', 'sse', 'long-poll'].map(ofKind)) {
      t.test(`${kind.kind}: messages of every size arrive whole both ways, and the gateway knows whence they came`, async (t) => {
        const { agent, gateway } = await (await startRig(t, kind, {}, nginx)).join()
        t.same([gateway.carrier.kind, gateway.carrier.peer], [kind.kind, '127.0.0.1'])
        t.equal(gateway.carrier.worker, nginx.pid())
        const random = new Random(2)
        const sent = Array.from({ length: 300 }, (_value, i) => random.bytes(i % 10 === 0 ? MESSAGE_MAX_BYTES : 1 + random.below(3_000)))
        for (const message of sent) for (const end of [agent, gateway]) end.carrier.send(message)
        await until('all are there', () => agent.messages.length === sent.length && gateway.messages.length === sent.length)
        for (const end of [agent, gateway]) t.ok(end.messages.every((message, i) => message.equals(sent[i]!)))
        t.same([agent.closed, gateway.closed], [[], []])
      })
    }

    t.test('http2: abort and cuts are told at both ends, and the next channel comes by the same way', async (t) => {
      const rig = await startRig(t, ofKind('http2'), { seed: 5, pieceMaxBytes: 5_000 }, nginx)
      for (const how of ['agent', 'gateway', 'link'] as const) {
        const { agent, gateway } = await rig.join()
        for (let i = 0; i < 20; i++) agent.carrier.send(Buffer.alloc(20_000, 7))
        await until('some of it is there', () => gateway.messages.length > 0)
        if (how === 'link') rig.link.cut()
        else (how === 'agent' ? agent : gateway).carrier.abort()
        await until(`both are told (${how})`, () => agent.closed.length > 0 && gateway.closed.length > 0)
        t.ok(gateway.messages.every((message) => message.length === 20_000), 'no half of a message')
      }
    })

    t.test('http2: what a slow agent does not take is bounded, and all of it comes', async (t) => {
      const rig = await startRig(t, ofKind('http2'), {}, nginx)
      const { agent, gateway } = await rig.join()
      const message = new Random(3).bytes(60_000)
      let sent = 0
      let mayGo = true
      const pump = (): void => {
        while (mayGo && sent < 600) {
          mayGo = gateway.carrier.send(message)
          sent++
        }
      }
      gateway.carrier.onDrain = () => {
        mayGo = true
        pump()
      }
      rig.link.stall()
      pump()
      await until('it is full', () => !mayGo)
      t.ok(sent < 400, `${String(sent)} messages were taken though nobody reads`)
      rig.link.resume()
      await until('all is there', () => agent.messages.length === 600)
      t.ok(agent.messages.every((each) => each.equals(message)))
    })

    t.test('http2: an nginx that knows HTTP/1.1 alone, and one whose gateway is away, are told apart at once', async (t) => {
      t.equal(await failure(dialHttp2, `https://localhost:${String(nginx.oldPort)}`), 'http: what answers there speaks no HTTP/2')
      t.equal(await failure(dialHttp2, `https://localhost:${String(nginx.port)}`), 'unreachable: the gateway is away (HTTP 502)')
      t.equal(await failure(dialHttp2, `https://localhost:${String(nginx.port)}/elsewhere`), 'http: no gateway answers there (HTTP 404)')
      t.match(await failure(dialHttp2, `http://localhost:${String(nginx.port)}`), /^(http|unreachable): /, 'TLS is needed there')
    })
  })
}

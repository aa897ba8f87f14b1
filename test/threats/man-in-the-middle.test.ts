// Threats 8, 9 and 28: who ends TLS with an authority that the agent trusts can pass on, and stop, but neither read nor change payload, nor come in by what it saw, nor be the gateway.
import net from 'node:net'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { decodeClose, decodeHello, encodeChallenge, Kind } from '../../protocol/messages.ts'
import { createServerSetup, decoy, ready, serverStart } from '../../protocol/opaque.ts'
import { MessageReader } from '../../protocol/message-reader.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { Random } from '../protocol/simulation.ts'
import { HOST, visit } from '../system/visitor.ts'
import { makeAuthority } from './authority.ts'
import { holds, startBetween } from './between.ts'

await ready

const KINDS = ['websocket', 'http2', 'tcp', 'sse', 'long-poll'] as const
const CANARIES = ['canary-cookie-77ab', 'canary-body-0c31', 'canary-answer-5e9d'] as const
/** The agent's exit code. */
const REFUSED = 3
const BODY = `${CANARIES[1]} `.repeat(3_000)

const authority = makeAuthority(t)
const own = authority.sign('gateway', { names: ['localhost'] })
const firewall = authority.sign('firewall', { names: ['localhost'] })
const [tlsPort, plainPort] = [await freePort(), await freePort()]
const gateway = await startGateway(t, { settings: { agents_tls_address: `127.0.0.1:${String(tlsPort)}`, agents_tls_cert: own.certFile, agents_tls_key: own.keyFile, agents_address: `127.0.0.1:${String(plainPort)}`, handshake_ms: 1_000 } })
const nginx = await startNginx(t, { runDir: gateway.runDir })
const join = await gateway.addAgent('agent-1', 'demo', HOST, `https://localhost:${String(tlsPort)}`)
const origin = await startOrigin(t, (request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => response.end(Buffer.concat([Buffer.from(CANARIES[2]), ...chunks])))
})
const between = await startBetween(t, { target: tlsPort, certificate: firewall })

const agentBy = (kind: string, scheme = 'https') => runAgent(t, ['http', origin.url, '--channel', kind, '--gateway', `${scheme}://localhost:${String(between.port)}`], { join, env: { NODE_EXTRA_CA_CERTS: authority.certFile } })
const ask = (): ReturnType<typeof visit> => visit({ port: nginx.port, method: 'POST', headers: ['Cookie', CANARIES[0]], body: BODY })
const begun = (): number => gateway.events.filter(({ event }) => event === 'session_began').length

for (const kind of KINDS) {
  t.test(`${kind}: it passes everything on and reads nothing; what it changes reaches nobody`, async (t) => {
    let agent = await agentBy(kind)
    await until('it is served', async () => (await ask()).status === 200)
    const whole = CANARIES[2] + BODY
    t.equal((await ask()).body.toString(), whole)
    const words = [...CANARIES, decodeJoin(join).secret]
    t.same(words.filter((word) => between.all().some((bytes) => holds(bytes, word))), [])

    // One bit in each piece of any size, in one direction after the other, while visitors ask.
    const random = new Random(7)
    for (const way of ['gateway', 'agent'] as const) {
      let changed = 0
      between.change = (bytes, to) => {
        if (to !== way || random.below(3) > 0) return bytes
        changed++
        const at = random.below(bytes.length)
        bytes[at] = bytes[at]! ^ (1 << random.below(8))
        return bytes
      }
      for (let i = 0; i < 6; i++) {
        const { status, body, complete } = await ask()
        t.ok(status >= 500 || !complete || body.toString() === whole, `${way}: ${String(status)} ${String(body.length)} bytes`)
      }
      t.ok(changed > 0, `${way}: something was changed`)
      between.change = undefined
      between.cut()
      await until('it is served again', async () => {
        // A handshake that was changed looks like a wrong secret: so it can stop an agent, which whoever runs it starts again.
        if (agent.child.exitCode !== null) {
          t.equal(agent.child.exitCode, REFUSED, agent.logs())
          agent = await agentBy(kind)
        }
        return (await ask()).status === 200
      }, { logs: () => agent.logs() + gateway.logs(), timeoutMs: 40_000 })
    }
    agent.signal('SIGTERM')
    t.equal(await agent.exited, 0)
  })
}

/** Says messages to the gateway and gives what it answers until it closes. */
function say(port: number, messages: readonly Buffer[]): Promise<Buffer[]> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    const reader = new MessageReader()
    const answers: Buffer[] = []
    socket.on('data', (chunk: Buffer) => {
      reader.push(chunk)
      for (let message = reader.next(); message instanceof Buffer; message = reader.next()) answers.push(Buffer.from(message))
      const next = messages[answers.length]
      if (next !== undefined) socket.write(framed(next))
    })
    socket.on('error', () => undefined).once('close', () => resolve(answers))
    socket.write(framed(messages[0]!))
  })
}

const framed = (message: Buffer): Buffer => Buffer.concat([Buffer.of(0, message.length >> 8, message.length & 255), message])

function messagesOf(bytes: Buffer): Buffer[] {
  const reader = new MessageReader()
  const messages: Buffer[] = []
  reader.push(bytes)
  for (let message = reader.next(); message instanceof Buffer; message = reader.next()) messages.push(Buffer.from(message))
  return messages
}

t.test('the login that it heard opens nothing: not whole, not for another session', async (t) => {
  const before = between.heard.length
  const agent = await agentBy('tcp', 'tls')
  const [said] = between.heard.slice(before).map(({ toGateway }) => messagesOf(Buffer.concat(toGateway))).filter((messages) => messages.some(([kind]) => kind === Kind.proof))
  const login = said!.filter(([kind]) => kind === Kind.hello || kind === Kind.proof)
  t.equal(login.length, 2, 'HELLO and PROOF were heard')
  const sessions = begun()
  const answers = await say(plainPort, login)
  t.same(answers.map(([kind]) => kind), [Kind.challenge, Kind.close])
  t.equal(decodeClose(answers[1]!).code.name, 'unauthenticated')
  t.equal(begun(), sessions)
  agent.signal('SIGTERM')
  await agent.exited
})

t.test('it can not be the gateway itself: an agent that is answered by another key serves nobody, and says why', async (t) => {
  const setup = createServerSetup()
  const proofs: number[] = []
  const impostor = net.createServer((socket) => {
    const reader = new MessageReader()
    socket.on('error', () => undefined).on('data', (chunk: Buffer) => {
      reader.push(chunk)
      for (let message = reader.next(); message instanceof Buffer; message = reader.next()) {
        if (message[0] === Kind.beat) socket.write(framed(Buffer.concat([Buffer.of(Kind.beat, 1), message.subarray(2)])))
        else if (message[0] === Kind.hello) {
          const { agentId, ke1 } = decodeHello(message)
          socket.write(framed(encodeChallenge(1, 0, serverStart(setup, agentId, decoy(setup, 'a guess'), ke1).ke2)))
        } else proofs.push(message[0]!)
      }
    })
  })
  await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void impostor.close())
  const { port } = impostor.address() as net.AddressInfo
  const agent = await runAgent(t, ['http', origin.url, '--channel', 'tcp', '--gateway', `tcp://127.0.0.1:${String(port)}`], { join, ready: false })
  t.equal(await agent.exited, 3)
  t.match(agent.events.find(({ event }) => event === 'refused'), { code: 'unauthenticated' })
  t.same(proofs.filter((kind) => kind !== Kind.close), [], 'no proof was given')
})

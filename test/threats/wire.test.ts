// Threat 9, and all that passes over a wire without TLS: who hears everything learns neither secret nor payload, and gains nothing by saying it again, on every channel.
import { join as joinPath } from 'node:path'
import net from 'node:net'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { runAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { HOST, visit } from '../system/visitor.ts'
import { type Between, holds, startBetween } from './between.ts'

const CANARIES = { cookie: 'canary-cookie-4dd1a9', field: 'canary-field-77c0e2', body: 'canary-body-19fe33', answerField: 'canary-answer-field-0b', answerBody: 'canary-answer-body-5c2' }
/** So long is whoever proves nothing listened to. */
const HANDSHAKE_MS = 500
const KINDS = ['websocket', 'tcp', 'http2', 'sse', 'long-poll', 'pipe'] as const

let asked = 0
const origin = await startOrigin(t, (request, response) => {
  asked++
  request.resume().on('end', () => response.writeHead(200, { 'X-Answer': CANARIES.answerField }).end(CANARIES.answerBody))
})

async function world(policy: 'always' | 'never') {
  const own = await freePort()
  const gateway = await startGateway(t, { settings: { agents_address: `127.0.0.1:${String(own)}`, policy, handshake_ms: HANDSHAKE_MS } })
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)
  const ask = (): ReturnType<typeof visit> => visit({ port: nginx.port, method: 'POST', headers: ['Cookie', CANARIES.cookie, 'X-Canary', CANARIES.field], body: CANARIES.body })

  /** An agent whose channel of this kind goes by somebody who listens. */
  const agentOver = async (kind: string) => {
    const at = joinPath(gateway.runDir, 'between.sock')
    const between = await startBetween(t, kind === 'pipe' ? { target: joinPath(gateway.runDir, 'agents.sock'), at } : { target: own })
    const url = `${kind === 'tcp' ? 'tcp' : 'http'}://127.0.0.1:${String(between.port)}`
    const agent = await runAgent(t, ['http', origin.url, '--policy', policy, ...(kind === 'pipe' ? ['--pipe', `unix:${at}`] : ['--channel', kind, '--gateway', url])], { join })
    await until('it is served', async () => (await ask()).status === 200, { logs: () => gateway.logs() + agent.logs() })
    return { between, agent }
  }
  return { gateway, own, join, ask, agentOver }
}

const found = (between: Between, words: readonly string[]): string[] => words.filter((word) => between.all().some((bytes) => holds(bytes, word)))

t.test('payload and secret are nowhere on the wire, and what was heard is of no use', async (t) => {
  const { gateway, own, join, ask, agentOver } = await world('always')
  const { secret } = decodeJoin(join)
  const words = [...Object.values(CANARIES), secret, Buffer.from(secret, 'base64url').toString('latin1'), join]
  for (const kind of KINDS) {
    await t.test(kind, async (t) => {
      const { between, agent } = await agentOver(kind)
      const answer = await ask()
      t.equal(answer.body.toString(), CANARIES.answerBody)
      t.ok(between.all().reduce((sum, { length }) => sum + length, 0) > 1_000, 'something was heard')
      t.same(found(between, words), [])

      // All that the agent said, said again, as it was and each connection cut short, while its session lives and after it.
      const begun = (): number => gateway.events.filter(({ event }) => event === 'session_began' || event === 'session_resumed').length
      for (const when of ['while the session lives', 'once it is over'] as const) {
        if (when === 'once it is over') {
          agent.signal('SIGTERM')
          t.equal(await agent.exited, 0)
        }
        const [sessions, exchanges] = [begun(), asked]
        const said = between.heard.map(({ toGateway }) => Buffer.concat(toGateway)).filter(({ length }) => length > 0)
        const target = kind === 'pipe' ? joinPath(gateway.runDir, 'agents.sock') : own
        await Promise.all(said.flatMap((bytes) => [sayAgain(target, bytes), sayAgain(target, bytes.subarray(0, -1))]))
        t.equal(begun(), sessions, `no session began ${when}`)
        t.equal(asked, exchanges, 'no origin was asked')
        if (when === 'while the session lives') t.equal((await ask()).status, 200, 'the session is none the worse')
      }
      t.same(agent.events.filter(({ event }) => event === 'lost' || event === 'detached'), [], 'the agent noticed nothing')
    })
  }
})

/** Says `bytes` and resolves when the gateway has answered all of it and closed. */
function sayAgain(target: number | string, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = typeof target === 'number' ? net.connect(target, '127.0.0.1') : net.connect(target)
    socket.on('error', () => undefined).once('close', () => resolve()).resume()
    socket.write(bytes, () => socket.end())
  })
}

t.test('without sealing the same search finds the payload on every channel, and the secret on none', async (t) => {
  const { join, ask, agentOver } = await world('never')
  const { secret } = decodeJoin(join)
  for (const kind of KINDS) {
    const { between, agent } = await agentOver(kind)
    await ask()
    t.same(found(between, Object.values(CANARIES)), Object.values(CANARIES), kind)
    t.same(found(between, [secret, Buffer.from(secret, 'base64url').toString('latin1'), join]), [], kind)
    agent.signal('SIGTERM')
    await agent.exited
  }
})

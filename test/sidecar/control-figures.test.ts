// The figures of an agent: asked of it when somebody asks, and whatever an agent makes of the question, whoever asked is answered and nobody else is the worse.
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { enter } from '../../agent/enter.ts'
import { processEnvironment } from '../../agent/environment.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import { encodeControl } from '../../protocol/control.ts'
import { errors } from '../../protocol/errors.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { encodeFigures, FIGURES_LINE_MAX_BYTES, type FiguresSaid } from '../../protocol/monitor.ts'
import { ready } from '../../protocol/opaque.ts'
import type { Session } from '../../protocol/session.ts'
import { NO_FIELDS, type Stream, StreamKind } from '../../protocol/stream.ts'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { opening, Recorder } from '../protocol/parties.ts'
import { HOST, visit } from '../system/visitor.ts'
import { ask, type Told } from './control-socket.ts'

await ready

const origin = await startOrigin(t, (request, response) => {
  request.resume()
  if (request.url === '/broken') request.socket.destroy()
  else response.end('ok')
})
const gateway = await startGateway(t)
const nginx = await startNginx(t, { runDir: gateway.runDir })
const agent = await startAgent(t, { join: await gateway.addAgent('web-1', 'demo', HOST, nginx.url), target: origin.url })
await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs: agent.logs })
const hostileJoin = decodeJoin(await gateway.addAgent('hostile', 'mine', 'hostile.localhost', nginx.url))

interface Shown {
  readonly id: string
  readonly agent: string
  readonly streams: number
  readonly exchanges: number
}
const sessionOf = async (name: string): Promise<Shown | undefined> => ((await ask(gateway.runDir, 'GET', '/v1/sessions')).json.items as Shown[]).find((session) => session.agent === name)
const figuresOf = (id: string): Promise<Told> => ask(gateway.runDir, 'GET', `/v1/sessions/${id}/figures`)

/** An agent that does with a monitor stream what the test says. */
async function hostile(t: Test, onMonitor: (stream: Stream, recorder: Recorder) => void): Promise<{ session: Session; recorder: Recorder }> {
  const recorder = new Recorder()
  const session = await new Promise<Session>((resolve, reject) => {
    dialWebsocket({ gateway: nginx.url, userAgent: 'hostile' }, (carrier) => {
      if ('reason' in carrier) return reject(new Error(carrier.detail))
      t.teardown(() => carrier.abort())
      enter(carrier, { join: hostileJoin, instance: randomBytes(16), policy: undefined, lanes: 1 }, processEnvironment(), (outcome) => ('code' in outcome ? reject(new Error(outcome.detail)) : resolve(outcome)))
    })
  })
  const nothing = (): void => undefined
  const events: Session['events'] = {
    onOpen: (_opening, stream) => {
      onMonitor(stream, recorder)
      return recorder
    },
    onPeerDrain: nothing, onDetached: nothing, onAttached: nothing, onChannelLost: nothing, onStalled: nothing, onMove: nothing, onEnd: nothing,
  }
  session.events = events
  session.open(opening({ kind: StreamKind.control, service: '', fields: NO_FIELDS, body: encodeControl({ serves: ['mine'], unhealthy: [], refused: [] }) }), new Recorder())
  await until('it has a session', () => sessionOf('hostile'), { logs: gateway.logs })
  t.teardown(async () => {
    session.end(errors.draining, 'the test is over')
    await until('its session is over', async () => (await sessionOf('hostile')) === undefined, { logs: gateway.logs })
  })
  return { session, recorder }
}

const SAID: FiguresSaid = { version: 'x/1', node: 'v1', uptime_s: 1, rss_bytes: 2, heap_bytes: 3, cpu_s: 4, loop_delay_ms: 5, exchanges: 6, served: 7, failed: 8, sent_bytes: 9, received_bytes: 10 }

t.test('an agent tells how it is at that moment', async (t) => {
  const before = (await sessionOf('web-1'))!
  const first = (await figuresOf(before.id)).json as unknown as FiguresSaid
  t.match(first, { version: /^postern\/\d/, node: /^v\d/, exchanges: 0 })
  t.ok(first.rss_bytes > 10e6 && first.rss_bytes > first.heap_bytes && first.heap_bytes > 1e6, 'memory')
  t.ok(first.uptime_s > 0 && first.cpu_s > 0 && first.loop_delay_ms < 5_000, 'times')
  t.ok(first.sent_bytes > 0 && first.received_bytes > 0, 'bytes')
  for (let i = 0; i < 3; i++) await visit({ port: nginx.port })
  t.equal((await visit({ port: nginx.port, path: '/broken' })).status, 502)
  const second = (await figuresOf(before.id)).json as unknown as FiguresSaid
  t.equal(second.served - first.served, 4)
  t.equal(second.failed - first.failed, 1)
  t.ok(second.received_bytes > first.received_bytes)
  const after = (await sessionOf('web-1'))!
  t.same([after.streams, after.exchanges], [before.streams, 0], 'nothing stays open for it')
})

t.test('those who ask at once are all answered, with one reading', async (t) => {
  const { id } = (await sessionOf('web-1'))!
  const all = await Promise.all(Array.from({ length: 20 }, () => figuresOf(id)))
  t.same(new Set(all.map(({ status }) => status)), new Set([200]))
})

t.test('the command shows them to people and to programs', async (t) => {
  const { id } = (await sessionOf('web-1'))!
  t.match(await gateway.command('sessions', 'figures', id), /FIGURE +VALUE\nversion +postern\/[^]*rss_bytes +\d+\.\d MB\n/)
  t.match(JSON.parse(await gateway.command('sessions', 'figures', id, '--json')), { version: /^postern/ })
})

t.test('a session that is not there has none', async (t) => {
  const { status, json } = await figuresOf('0'.repeat(32))
  t.equal(status, 404)
  t.match(json, { code: 'not_found' })
})

t.test('an agent that refuses the kind does not tell its figures', async (t) => {
  const { session } = await hostile(t, (stream) => stream.reset(errors.refused, false))
  t.match(await figuresOf(session.id), { status: 503, json: { code: 'no_figures', detail: 'the agent does not tell its figures' } })
})

t.test('one that never answers is waited for five seconds, and its stream is reset', async (t) => {
  const { session, recorder } = await hostile(t, () => undefined)
  t.match(await figuresOf(session.id), { status: 504, json: { code: 'agent_silent' } })
  await until('it hears of that', () => recorder.events.includes('reset cancelled begun'))
  t.equal((await visit({ port: nginx.port })).status, 200)
})

t.test('of one that says more only the first line counts, and the rest is not listened to', async (t) => {
  const { session, recorder } = await hostile(t, (stream) => {
    stream.sendHead(NO_FIELDS, undefined, false)
    stream.write(encodeFigures({ ...SAID, more: 'passed over' } as FiguresSaid))
    for (let i = 0; i < 100; i++) stream.write(Buffer.alloc(16_384, ' '))
  })
  const { status, json } = await figuresOf(session.id)
  t.equal(status, 200)
  t.same(json, SAID)
  await until('its stream is reset', () => recorder.events.includes('reset cancelled begun'))
  t.equal(session.ended, false)
})

for (const [what, garbage] of [
  ['no JSON', Buffer.from('figures\n')],
  ['other members', Buffer.from('{"rss_bytes":-1}\n')],
  ['a time without end', Buffer.from(JSON.stringify(SAID).replace('"cpu_s":4', '"cpu_s":1e999') + '\n')],
  ['a terminal’s commands', encodeFigures({ ...SAID, version: '\u001B[2J' })],
  ['a line without end', Buffer.alloc(FIGURES_LINE_MAX_BYTES + 1, 'x')],
] as const) {
  t.test(`one that says ${what} loses its session, and whoever asked is told`, async (t) => {
    const { session } = await hostile(t, (stream) => stream.sendHead(NO_FIELDS, garbage, true))
    t.match(await figuresOf(session.id), { status: 503, json: { code: 'session_leaving' } })
    t.match(await until('it is over', () => gateway.events.findLast(({ event, session: id }) => event === 'session_ended' && id === session.id)), { code: 'protocol_error' })
    t.equal((await visit({ port: nginx.port })).status, 200)
  })
}

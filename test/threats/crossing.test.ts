// Threat 10, with real agents: one that does all it can think of to another's exchanges, session and lanes comes to nothing, and the other notices nothing.
import { createHash, randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { dialWebsocket } from '../../agent/websocket.ts'
import { enter } from '../../agent/enter.ts'
import { processEnvironment } from '../../agent/environment.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { encodeControl } from '../../protocol/control.ts'
import { errors } from '../../protocol/errors.ts'
import { encodeRefusal, Frame } from '../../protocol/frames.ts'
import { decodeJoin } from '../../protocol/join.ts'
import { decodeClose, Direction, encodeChannelOpen, encodeLanes, Kind } from '../../protocol/messages.ts'
import { ready } from '../../protocol/opaque.ts'
import type { Session } from '../../protocol/session.ts'
import { NO_FIELDS, StreamKind } from '../../protocol/stream.ts'
import { varintSize, writeVarint } from '../../protocol/varint.ts'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { OK, opening, Recorder } from '../protocol/parties.ts'
import { begin, HOST, read, visit } from '../system/visitor.ts'

await ready

const HOSTILE_HOST = 'hostile.localhost'
const PIECE = Buffer.alloc(16_384, 'the body of the other agent’s service; ')
const FORGED_COUNT = 100_000
const RECORD_BYTES = 60_000

// The victim's exchanges: one answer whose end the test decides.
const held: (() => void)[] = []
const origin = await startOrigin(t, (request, response) => {
  request.resume()
  if (request.url !== '/held') return void response.end('of the victim')
  response.write(PIECE)
  held.push(() => response.end(PIECE))
})
// Without sealing, for then a record can be written by hand; who may write which is the same.
const gateway = await startGateway(t, { settings: { policy: 'never' } })
const nginx = await startNginx(t, { runDir: gateway.runDir })
const victimJoin = await gateway.addAgent('victim', 'demo', HOST, nginx.url)
const hostileJoin = decodeJoin(await gateway.addAgent('hostile', 'mine', HOSTILE_HOST, nginx.url))
const victim = await startAgent(t, { join: victimJoin, target: origin.url, args: ['--policy', 'never'] })
const logs = (): string => `${gateway.logs()}\n${victim.logs()}`
await until('it is served', async () => (await visit({ port: nginx.port })).status === 200, { logs })

const count = (name: string): number => gateway.events.filter(({ event }) => event === name).length
const victimSession = async (): Promise<{ id: string; attached: boolean; agent: string } | undefined> =>
  (JSON.parse(await gateway.command('sessions', 'list', '--json')) as { id: string; attached: boolean; agent: string }[]).find(({ agent }) => agent === 'victim')
const before = (await victimSession())!

function dialed(t: Test): Promise<Carrier> {
  return new Promise((resolve, reject) => {
    dialWebsocket({ gateway: nginx.url, userAgent: 'hostile' }, (outcome) => {
      if ('reason' in outcome) return reject(new Error(outcome.detail))
      t.teardown(() => outcome.abort())
      resolve(outcome)
    })
  })
}

interface Hostile {
  readonly session: Session
  readonly carrier: Carrier
  /** Writes frames of its own making on its lane, and hears nothing any more. */
  say(frames: Buffer): void
}

async function hostile(t: Test): Promise<Hostile> {
  const carrier = await dialed(t)
  const session = await new Promise<Session>((resolve, reject) => {
    const entrant = { join: hostileJoin, instance: randomBytes(16), policy: 'never', lanes: 1 } as const
    enter(carrier, entrant, processEnvironment(), (outcome) => ('code' in outcome ? reject(new Error(outcome.detail)) : resolve(outcome)))
  })
  return {
    session,
    carrier,
    say: (frames) => {
      carrier.onMessage = () => undefined
      carrier.send(Buffer.concat([Buffer.of(Kind.record, 0), frames]))
    },
  }
}

/** Claims these services, and answers what comes for them. Resolves once the first exchange is over. */
async function serve({ session }: Hostile, services: readonly string[]): Promise<void> {
  session.events = {
    onOpen: (_opening, stream) => {
      stream.sendHead(OK, Buffer.from('of the hostile'), true)
      return new Recorder()
    },
    onPeerDrain: () => undefined, onDetached: () => undefined, onAttached: () => undefined, onChannelLost: () => undefined, onStalled: () => undefined, onMove: () => undefined, onEnd: () => undefined,
  }
  session.open(opening({ kind: StreamKind.control, service: '', fields: NO_FIELDS, body: encodeControl({ serves: services, unhealthy: [], refused: [] }) }), new Recorder())
  await until('the hostile serves its own', async () => (await visit({ port: nginx.port, host: HOSTILE_HOST })).body.toString() === 'of the hostile', { logs })
}

const varint = (value: number): Buffer => {
  const out = Buffer.alloc(varintSize(value))
  writeVarint(out, 0, value)
  return out
}
const frame = (type: number, ...parts: Buffer[]): Buffer => {
  const contents = Buffer.concat(parts)
  return Buffer.concat([Buffer.of(type), varint(contents.length), contents])
}

/** All kinds of frame with which an agent could speak in an exchange. */
const FORGERIES: Readonly<Record<string, (id: number) => Buffer>> = {
  'a head': (id) => frame(Frame.head, varint(id), Buffer.of(1, 0, 0), Buffer.from('forged')),
  data: (id) => frame(Frame.data, varint(id), Buffer.from('forged')),
  'an end': (id) => frame(Frame.end, varint(id)),
  'a stop': (id) => encodeRefusal(Frame.stop, id, errors.cancelled, false),
  'a reset': (id) => encodeRefusal(Frame.reset, id, errors.cancelled, true),
  credit: (id) => frame(Frame.credit, varint(id), varint(2 ** 40)),
}

/** An exchange of the victim is under way during `attack`, and comes whole after it. */
async function unharmed(t: Test, attack: () => Promise<void>): Promise<void> {
  const lost = (): number => victim.events.filter(({ event }) => event === 'lost' || event === 'moved' || event === 'failed').length
  const quiet = lost()
  const { request, answer } = begin({ port: nginx.port, path: '/held' })
  request.end()
  const whole = read(await answer)
  await attack()
  held.splice(0).forEach((end) => end())
  const { complete, sha256 } = await whole
  t.same({ complete, sha256 }, { complete: true, sha256: createHash('sha256').update(PIECE).update(PIECE).digest('hex') }, 'its bytes are the origin’s')
  t.equal((await visit({ port: nginx.port })).body.toString(), 'of the victim')
  t.equal(lost(), quiet, 'its agent noticed nothing')
  t.equal((await victimSession())?.id, before.id, 'its session is the same')
}

for (const [what, forge] of Object.entries(FORGERIES)) {
  t.test(`${what} for a stream that is another session’s ends the session of who says it, and no other`, (t) => unharmed(t, async () => {
    for (const id of [0, 2, 4, 6, 100, 2 ** 30]) {
      const one = await hostile(t)
      const ended = count('session_ended')
      one.say(forge(id))
      await until('it is put out', () => count('session_ended') > ended, { logs })
      t.match(gateway.events.findLast(({ event }) => event === 'session_ended'), { agent: 'hostile', code: 'protocol_error', detail: /never was/ }, `stream ${String(id)}`)
    }
  }))
}

t.test('a hundred thousand frames for a stream that is over are dropped', (t) => unharmed(t, async () => {
  const one = await hostile(t)
  await serve(one, ['mine'])
  const ended = count('session_ended')
  const late = FORGERIES.data!(0)
  const record = Buffer.concat(Array.from({ length: Math.floor(RECORD_BYTES / late.length) }, () => late))
  for (let said = 0; said < FORGED_COUNT; said += record.length / late.length) one.say(record)
  t.equal((await visit({ port: nginx.port })).body.toString(), 'of the victim', 'meanwhile')
  one.say(FORGERIES.data!(2 ** 30))
  await until('the last of them, which is for none that was, was heard', () => count('session_ended') > ended, { logs })
}))

t.test('who claims another’s service, or opens an exchange with another’s command uuid, gets neither its visitors nor its answers', (t) => unharmed(t, async () => {
  const one = await hostile(t)
  await serve(one, ['mine', 'demo'])
  for (let i = 0; i < 20; i++) t.equal((await visit({ port: nginx.port })).body.toString(), 'of the victim')
  const [{ uuid }] = JSON.parse(await until('the exchanges are kept', async () => {
    const said = await gateway.command('exchanges', 'list', '--of', 'demo', '--json')
    return said.trim() === '[]' ? undefined : said
  })) as [{ uuid: string }]
  const recorder = new Recorder()
  one.session.open(opening({ uuid, service: 'demo', ended: true }), recorder)
  await until('the gateway takes no exchange of an agent', () => recorder.events.length > 0, { logs })
  t.same(recorder.events, ['reset refused not begun'])
}))

t.test('a session is opened further, and its lanes are attached, with its own key alone', (t) => unharmed(t, async () => {
  const sessionId = Buffer.from(before.id, 'hex')
  const marks = [{ lane: 0, attachCount: 1_000, expects: 0 }]
  const resumed = count('session_resumed')
  for (const key of [Buffer.alloc(32), randomBytes(32)]) {
    const carrier = await dialed(t)
    const closed = new Promise<Buffer>((resolve) => (carrier.onMessage = resolve))
    carrier.send(encodeChannelOpen({ channelKey: key, direction: Direction.toGateway, sessionId, channelNumber: 1_000 }, marks))
    t.equal(decodeClose(await closed).code, errors.unknown_session)
  }
  // On a channel of its own: the name of the other session in the MAC, and lanes that it has not.
  for (const [id, lane] of [[sessionId, 0], [undefined, 1]] as const) {
    const one = await hostile(t)
    const closed = new Promise<Buffer>((resolve) => (one.carrier.onMessage = resolve))
    const scope = { channelKey: randomBytes(32), direction: Direction.toGateway, sessionId: id ?? Buffer.from(one.session.id, 'hex'), channelNumber: 0 }
    one.carrier.send(encodeLanes(Kind.attach, scope, [{ lane, attachCount: 1_000, expects: 0 }]))
    t.equal((await closed)[0], Kind.close)
  }
  t.equal(count('session_resumed'), resumed)
  t.equal((await victimSession())?.attached, true)
}))

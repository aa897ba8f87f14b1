// §3, §4, §5: who gets a session and who does not, whatever is said on the way; opening further channels.
import t from 'tap'
import { admit, type Gatekeeper } from '../../protocol/admit.ts'
import type { Times } from '../../protocol/environment.ts'
import { type ErrorCode, errors } from '../../protocol/errors.ts'
import { CHANNELS_MAX_COUNT, GRACE_MAX_MS, HANDSHAKE_MESSAGE_MAX_BYTES, HEARTBEAT_MAX_MS, HEARTBEAT_MIN_MS } from '../../protocol/limits.ts'
import { login, type LoginOptions } from '../../protocol/login.ts'
import { Kind, type Policy } from '../../protocol/messages.ts'
import { createServerSetup, decoy, publicKey, ready, register } from '../../protocol/opaque.ts'
import { type Refusal, Session } from '../../protocol/session.ts'
import { opening, Recorder, SessionRecorder } from './parties.ts'
import { AT_ONCE, environment, Random, SETTINGS, SimulatedClock, TIMES, Wire } from './simulation.ts'

await ready
const SETUP = createServerSetup()
const SECRET = 'a-secret-of-256-bits'
const RECORD = register(SETUP, 'agent-1', SECRET)
const DECOY = decoy(SETUP, 'nobody keeps it')

class Gateway implements Gatekeeper {
  readonly serverSetup = SETUP
  readonly decoyRecord = DECOY
  readonly sessions = new Map<string, Session>()
  readonly refusals: string[] = []
  policy: Policy = 'always'
  times: Pick<Times, 'heartbeatMs' | 'deadAfterMs' | 'graceMs'> = TIMES
  verdict: ErrorCode | undefined
  readonly events = new SessionRecorder((_opened, stream) => {
    stream.sendHead([':status', '204'], undefined, true)
    return new Recorder()
  })

  recordOf(agentId: string): string | null {
    return agentId === 'agent-1' ? RECORD : null
  }
  terms(): ReturnType<Gatekeeper['terms']> {
    if (this.verdict !== undefined) return this.verdict
    const { heartbeatMs, deadAfterMs, graceMs } = this.times
    const terms = { services: [{ name: 'demo', hosts: ['demo.localhost'] }], heartbeat_ms: heartbeatMs, dead_after_ms: deadAfterMs, grace_ms: graceMs, channels: ['websocket'] }
    return { policy: this.policy, lanes: 4, settings: SETTINGS, terms }
  }
  sessionById(id: string): Session | undefined {
    return this.sessions.get(id)
  }
  onSession(session: Session): void {
    this.sessions.set(session.id, session)
    session.events = this.events
  }
  onChannel(): void {}
  onRefused(_carrier: unknown, code: ErrorCode, detail: string): void {
    this.refusals.push(`${code.name}: ${detail}`)
  }
}

class World {
  readonly clock = new SimulatedClock()
  readonly random = new Random(5)
  readonly gateway = new Gateway()
  readonly environment = environment(this.clock, this.random, 2 ** 26)

  wire(): Wire {
    const wire = new Wire(this.clock, () => 5)
    admit(wire.right, this.gateway, AT_ONCE, this.environment)
    return wire
  }

  login(change: Partial<LoginOptions> = {}, wire = this.wire()): Session | Refusal {
    let outcome: Session | Refusal | undefined
    login(
      wire.left,
      { agentId: 'agent-1', secret: SECRET, gatewayKey: publicKey(SETUP), instance: this.random.bytes(16), policies: ['always', 'never'], lanes: 2, settings: SETTINGS, ...change },
      this.environment,
      (what) => (outcome = what),
    )
    this.clock.run(() => outcome !== undefined, 20_000)
    this.settle()
    return outcome!
  }

  settle(ms = 200): void {
    this.clock.run(() => false, ms)
  }

  works(session: Session): boolean {
    const asker = new Recorder()
    session.open(opening({ ended: true }), asker)
    return this.clock.run(() => asker.events[0] === 'head 204 ended', 1_000)
  }
}

const refused = (outcome: Session | Refusal): string => (outcome instanceof Session ? 'a session' : outcome.code.name)

t.test('the right secret gets a session on which streams work, sealed or not', (t) => {
  for (const policy of ['always', 'never'] as const) {
    const world = new World()
    world.gateway.policy = policy
    const session = world.login()
    if (!(session instanceof Session)) throw new Error(session.detail)
    t.equal(session.policy, policy)
    t.equal(session.terms.services[0]?.name, 'demo')
    t.equal(world.gateway.sessions.get(session.id)?.id, session.id)
    t.ok(world.works(session))
  }
  t.end()
})

t.test('what the owner of a new session throws is not lost as a fault of the handshake', (t) => {
  const world = new World()
  const done = (): void => {
    throw new Error('the owner’s own')
  }
  login(
    world.wire().left,
    { agentId: 'agent-1', secret: SECRET, gatewayKey: publicKey(SETUP), instance: world.random.bytes(16), policies: ['always'], lanes: 1, settings: SETTINGS },
    world.environment,
    done,
  )
  t.throws(() => world.settle(1_000), /the owner’s own/)
  t.end()
})

t.test('a wrong secret, an unknown id and another gateway get none, and look alike to the gateway', (t) => {
  const world = new World()
  t.equal(refused(world.login({ secret: 'another' })), 'unauthenticated')
  t.equal(refused(world.login({ agentId: 'nobody' })), 'unauthenticated')
  t.equal(refused(world.login({ gatewayKey: publicKey(createServerSetup()) })), 'unauthenticated')
  t.equal(world.gateway.sessions.size, 0)
  t.end()
})

t.test('a forged proof is refused by the gateway, for a known and an unknown id with the same words', (t) => {
  const said: string[] = []
  for (const agentId of ['agent-1', 'nobody']) {
    const world = new World()
    const wire = world.wire()
    const send = wire.left.send.bind(wire.left)
    wire.left.send = (message) => send(message[0] === Kind.close ? Buffer.concat([Buffer.of(Kind.proof, 0x40, 64), Buffer.alloc(64)]) : message)
    world.login({ agentId, secret: 'another' }, wire)
    said.push(wire.right.sent.at(-1)!.toString('hex'))
    t.match(world.gateway.refusals.join(), /unauthenticated/)
  }
  t.equal(said[0], said[1])
  t.end()
})

t.test('whoever changes one byte of any of the four messages gets no session at either end that works', (t) => {
  const lengths = new Map<number, number>()
  const world = new World()
  const probe = world.wire()
  world.login({}, probe)
  for (const end of [probe.left, probe.right]) for (const message of end.sent) if (message[0]! <= Kind.welcome) lengths.set(message[0]!, message.length)
  t.equal(lengths.size, 4)
  for (const [kind, length] of lengths) {
    for (let i = 0; i < 12; i++) {
      const at = i === 0 ? 1 : world.random.below(length)
      const tampered = new World()
      const wire = tampered.wire()
      for (const end of [wire.left, wire.right]) {
        const send = end.send.bind(end)
        end.send = (message) => {
          if (message[0] !== kind) return send(message)
          const changed = Buffer.from(message)
          changed[at] = changed[at]! ^ (1 << world.random.below(8))
          return send(changed)
        }
      }
      const outcome = tampered.login({}, wire)
      const works = outcome instanceof Session && tampered.works(outcome)
      t.notOk(works, `kind ${String(kind)}, byte ${String(at)}`)
    }
  }
  t.end()
})

t.test('the two ends must agree on the policy', (t) => {
  const world = new World()
  world.gateway.policy = 'never'
  t.equal(refused(world.login({ policies: ['always'] })), 'policy_mismatch')
  world.gateway.policy = 'always'
  t.equal(refused(world.login({ policies: ['never'] })), 'policy_mismatch')
  t.equal(world.gateway.sessions.size, 0)
  t.end()
})

t.test('a verdict of the gateway after the proof reaches the agent as its code', (t) => {
  const world = new World()
  world.gateway.verdict = errors.revoked
  t.equal(refused(world.login()), 'revoked')
  t.end()
})

t.test('garbage instead of a handshake closes the channel with protocol_error', (t) => {
  const hello = Buffer.from(`010101000761${'00'.repeat(16)}`, 'hex')
  for (const [what, message] of [
    ['an empty message', Buffer.alloc(0)],
    ['an unknown kind', Buffer.of(0x77)],
    ['a record before the proof', Buffer.of(0x10, 0, 1)],
    ['a PROOF first', Buffer.of(Kind.proof, 1, 1)],
    ['half a HELLO', hello],
    ['a HELLO whose KE1 is none', Buffer.from(`0101010001${'61'}${'00'.repeat(16)}0301020180010000024000100020${'11'.repeat(32)}`, 'hex')],
    ['a HELLO that is too long', Buffer.concat([Buffer.of(Kind.hello), Buffer.alloc(HANDSHAKE_MESSAGE_MAX_BYTES)])],
    ['half a CHANNEL_OPEN', Buffer.of(Kind.channelOpen, 1, 2, 3)],
  ] as const) {
    const world = new World()
    const wire = world.wire()
    wire.left.send(message)
    world.settle()
    t.notOk(wire.isOpen, what)
    t.match(world.gateway.refusals.join(), /^protocol_error/, what)
  }
  t.end()
})

t.test('random bytes never make the gateway throw', (t) => {
  const random = new Random(99)
  for (let i = 0; i < 400; i++) {
    const world = new World()
    const wire = world.wire()
    const bytes = random.bytes(1 + random.below(300))
    if (random.below(2) === 0) bytes[0] = 1 + random.below(8)
    wire.left.send(bytes)
    world.settle(50)
    t.equal(world.gateway.sessions.size, 0)
    t.notOk(wire.isOpen)
  }
  t.end()
})

t.test('a version that the two ends do not share is refused', (t) => {
  const world = new World()
  const wire = world.wire()
  const send = wire.left.send.bind(wire.left)
  wire.left.send = (message) => {
    const newer = Buffer.from(message)
    if (message[0] === Kind.hello) newer[1] = newer[2] = 9
    return send(newer)
  }
  t.equal(refused(world.login({}, wire)), 'unsupported_version')
  t.end()
})

t.test('who says nothing for the time of a handshake is put out, at either end', (t) => {
  const world = new World()
  const wire = world.wire()
  world.clock.run(() => !wire.isOpen, TIMES.handshakeMs + 1_000)
  t.match(world.gateway.refusals.join(), /^handshake_timeout/)
  const silent = new Wire(world.clock, () => 5)
  t.equal(refused(world.login({}, silent)), 'handshake_timeout')
  t.end()
})

// --- further channels ----------------------------------------------------------------------------------------------------

function resume(world: World, session: Session, wire = world.wire(), lanes?: readonly number[]): string {
  let outcome = 'no answer'
  session.openChannel(wire.left, (refusal) => (outcome = refusal === undefined ? 'opened' : refusal.code.name), lanes)
  world.settle()
  return outcome
}

t.test('a session goes on over another channel, and its streams with it', (t) => {
  const world = new World()
  const first = world.wire()
  const session = world.login({}, first) as Session
  const events = new SessionRecorder(() => errors.refused)
  session.events = events
  first.cut('by the test')
  world.settle()
  t.same(events.events, ['channel lost: by the test', 'detached'])
  t.same(world.gateway.events.events, ['channel lost: by the test', 'detached'])
  const asker = new Recorder()
  session.open(opening({ ended: true }), asker)
  t.equal(resume(world, session), 'opened')
  t.same(asker.events, ['head 204 ended'], 'what was asked in the gap is answered')
  t.same(events.events, ['channel lost: by the test', 'detached', 'attached'])
  t.end()
})

t.test('a session without a channel ends when its grace is over, at both ends', (t) => {
  const world = new World()
  const first = world.wire()
  const session = world.login({}, first) as Session
  const asker = new Recorder()
  session.open(opening(), asker)
  world.settle(1)
  first.cut('by the test')
  t.ok(world.clock.run(() => session.ended && [...world.gateway.sessions.values()][0]!.ended, TIMES.graceMs + 100))
  t.match(asker.events.join(), /reset agent_lost/)
  t.equal(resume(world, session), 'unknown_session')
  t.end()
})

t.test('a CHANNEL_OPEN is good once: replayed, with a wrong MAC or for an unknown session it changes nothing', (t) => {
  const world = new World()
  const first = world.wire()
  const session = world.login({}, first) as Session
  const second = world.wire()
  t.equal(resume(world, session, second), 'opened')
  const message = second.left.sent.find((sent) => sent[0] === Kind.channelOpen)!
  const tries: [string, Buffer][] = [['replayed', message]]
  for (const at of [1, 17, 18, message.length - 1]) {
    const changed = Buffer.from(message)
    changed[at] = changed[at]! ^ 3
    tries.push([`byte ${String(at)} changed`, changed])
  }
  for (const [what, bytes] of tries) {
    const wire = world.wire()
    wire.left.send(bytes)
    world.settle()
    t.notOk(wire.isOpen, what)
    t.match(world.gateway.refusals.at(-1), /^unknown_session|^stale_attach|^protocol_error/, what)
  }
  t.ok(world.works(session), 'the session is as it was')
  t.end()
})

t.test('a channel number that no session can reach is refused as what it is', (t) => {
  const world = new World()
  const session = world.login() as Session
  const wire = world.wire()
  wire.left.send(Buffer.concat([Buffer.of(Kind.channelOpen), Buffer.from(session.id, 'hex'), Buffer.of(0xc0, 0, 1, 0, 0, 0, 0, 0), Buffer.of(0), Buffer.alloc(16)]))
  world.settle()
  t.match(world.gateway.refusals, [/^protocol_error/])
  t.ok(world.works(session))
  t.end()
})

t.test('an agent takes no terms that are none', (t) => {
  for (const services of [undefined, null, 'demo', [null], [{ name: 'demo' }], [{ name: 1, hosts: [] }]]) {
    const world = new World()
    const { terms } = world.gateway
    world.gateway.terms = () => {
      const offer = terms.call(world.gateway)
      return 'number' in offer ? offer : { ...offer, terms: { ...offer.terms, services: services as never } }
    }
    t.match(world.login(), { code: errors.protocol_error }, JSON.stringify(services))
  }
  t.end()
})

t.test('a session has so many channels and no more: of one more the oldest without a lane makes room, and no channel is refused', (t) => {
  const world = new World()
  const first = world.wire()
  const session = world.login({}, first) as Session
  const [known] = [...world.gateway.sessions.values()]
  const idle = Array.from({ length: CHANNELS_MAX_COUNT + 1 }, () => world.wire())
  for (const wire of idle) t.equal(resume(world, session, wire, []), 'opened')
  t.equal(known!.carriers.length, CHANNELS_MAX_COUNT)
  t.same([first, ...idle].map(({ isOpen }) => isOpen), [true, false, false, ...Array<boolean>(CHANNELS_MAX_COUNT - 1).fill(true)])
  t.ok(world.works(session))
  // As connections that are cut in silence, again and again: the gateway keeps all of them, for it hears of none.
  for (let i = 0; i < 2 * CHANNELS_MAX_COUNT; i++) t.equal(resume(world, session), 'opened')
  t.equal(known!.carriers.length, CHANNELS_MAX_COUNT)
  t.notOk(first.isOpen)
  t.ok(world.works(session))
  t.end()
})

t.test('a session can not be resumed with the keys of another', (t) => {
  const world = new World()
  const one = world.login() as Session
  const two = world.login() as Session
  const wire = world.wire()
  const send = wire.left.send.bind(wire.left)
  wire.left.send = (message) => {
    const forged = Buffer.from(message)
    if (message[0] === Kind.channelOpen) Buffer.from(two.id, 'hex').copy(forged, 1)
    return send(forged)
  }
  t.equal(resume(world, one, wire), 'unknown_session')
  t.ok(world.works(two))
  t.end()
})

t.test('an attach that is not newer than the last one is refused as stale', (t) => {
  const world = new World()
  const first = world.wire()
  const session = world.login({}, first) as Session
  const second = world.wire()
  t.equal(resume(world, session, second), 'opened')
  const gatewaySide = world.gateway.sessionById(session.id)!
  const refusals: (Refusal | undefined)[] = []
  session.attach(first.left, [0], (refusal) => refusals.push(refusal))
  world.settle()
  const attach = first.left.sent.find((sent) => sent[0] === Kind.attach)!
  t.same(refusals, [undefined])
  first.left.send(attach)
  world.settle()
  t.notOk(first.isOpen, 'the channel that said it again is closed')
  t.ok(second.isOpen)
  t.notOk(gatewaySide.ended)
  t.end()
})

// --- signs of life -------------------------------------------------------------------------------------------------------

t.test('a channel that falls silent is dead after its time at both ends, and the session waits for another', (t) => {
  const world = new World()
  const first = world.wire()
  const session = world.login({}, first) as Session
  const events = new SessionRecorder(() => errors.refused)
  session.events = events
  world.settle(60_000)
  t.same(events.events, [], 'beats keep an idle channel alive')
  const since = world.clock.now()
  first.left.deaf = true
  first.right.deaf = true
  t.ok(world.clock.run(() => events.events.includes('detached'), TIMES.deadAfterMs + 1))
  t.ok(world.clock.now() - since <= TIMES.deadAfterMs)
  world.settle(TIMES.deadAfterMs)
  t.ok(world.gateway.events.events.includes('detached'))
  t.notOk(session.ended)
  t.end()
})

t.test('the agent beats and waits as the gateway says, within its own bounds', (t) => {
  for (const [said, taken] of [
    [{ heartbeatMs: 500, deadAfterMs: 1_500, graceMs: 3_000 }, { heartbeatMs: 500, deadAfterMs: 1_500, graceMs: 3_000 }],
    [{ heartbeatMs: 50, deadAfterMs: 100, graceMs: 0 }, { heartbeatMs: HEARTBEAT_MIN_MS, deadAfterMs: 2 * HEARTBEAT_MIN_MS, graceMs: 0 }],
    [{ heartbeatMs: 30_000, deadAfterMs: 1_000, graceMs: 0 }, { heartbeatMs: 30_000, deadAfterMs: 60_000, graceMs: 0 }],
    [{ heartbeatMs: 1e9, deadAfterMs: 1e9, graceMs: 1e9 }, { heartbeatMs: HEARTBEAT_MAX_MS, deadAfterMs: 3 * HEARTBEAT_MAX_MS, graceMs: GRACE_MAX_MS }],
  ] as const) {
    const world = new World()
    world.gateway.times = said
    const session = world.login() as Session
    t.match(session.environment.times, taken)
  }
  t.end()
})

t.test('a round trip is measured by heartbeats, and MOVE reaches the agent', (t) => {
  const world = new World()
  const first = world.wire()
  const session = world.login({}, first) as Session
  const events = new SessionRecorder(() => errors.refused)
  session.events = events
  world.gateway.sessionById(session.id)!.askToMove(first.right, errors.gateway_leaving)
  world.settle()
  t.same(events.events, ['move gateway_leaving'])
  t.end()
})


// §2: a probe shows that messages go both ways before anybody logs in, and leaves the carrier as fresh as it was.
import t from 'tap'
import { admit } from '../../protocol/admit.ts'
import { PROBES_MAX_COUNT } from '../../protocol/limits.ts'
import { decodeClose, encodeBeat, encodeClose, Kind } from '../../protocol/messages.ts'
import { errors } from '../../protocol/errors.ts'
import { probe } from '../../protocol/probe.ts'
import { AT_ONCE, environment, Random, SimulatedClock, Wire } from './simulation.ts'

const WITHIN_MS = 5_000

function world(): { wire: Wire; clock: SimulatedClock; around: ReturnType<typeof environment> } {
  const clock = new SimulatedClock()
  return { clock, around: environment(clock, new Random(1), 2 ** 20), wire: new Wire(clock, () => 5) }
}

const stranger = {
  serverSetup: '',
  decoyRecord: '',
  recordOf: () => null,
  terms: () => errors.revoked,
  sessionById: () => undefined,
  onSession: () => undefined,
  onChannel: () => undefined,
  onRefused: () => undefined,
}

t.test('a gateway answers, and what follows is as if nothing had been asked', (t) => {
  const { wire, clock, around } = world()
  admit(wire.right, stranger, AT_ONCE, around)
  const told: (string | undefined)[] = []
  probe(wire.left, around, WITHIN_MS, (failure) => told.push(failure))
  clock.run(() => told.length > 0)
  t.same(told, [undefined])
  let next: Buffer | undefined
  wire.left.onMessage = (message) => (next = message)
  wire.left.send(Buffer.of(Kind.hello))
  clock.run(() => next !== undefined)
  t.equal(decodeClose(next!).code.name, 'protocol_error', 'HELLO is read: it was a bad one')
  t.end()
})

t.test('a gateway answers no more than so many', (t) => {
  const { wire, clock, around } = world()
  admit(wire.right, stranger, AT_ONCE, around)
  const kinds: number[] = []
  wire.left.onMessage = (message) => kinds.push(message[0]!)
  for (let i = 0; i <= PROBES_MAX_COUNT; i++) wire.left.send(encodeBeat(false, i))
  clock.run(() => !wire.isOpen, 1_000)
  t.same(kinds, [...Array.from({ length: PROBES_MAX_COUNT }, () => Kind.beat), Kind.close])
  t.end()
})

t.test('who asks and goes was not refused, who goes without a word or amid a login was', (t) => {
  for (const [says, refusals] of [[[encodeBeat(false, 1)], 0], [[], 1], [[encodeBeat(false, 1), Buffer.of(Kind.hello)], 1]] as const) {
    const { wire, clock, around } = world()
    const told: string[] = []
    admit(wire.right, { ...stranger, onRefused: (_carrier, code) => told.push(code.name) }, AT_ONCE, around)
    for (const message of says) wire.left.send(message)
    clock.run(() => false, 1_000)
    wire.cut('gone')
    clock.run(() => false, 1_000)
    t.equal(told.length, refusals, told.join())
  }
  t.end()
})

t.test('silence, a close, another number and another message are failures, told once', (t) => {
  const answers: Record<string, [(wire: Wire, message: Buffer) => void, RegExp]> = {
    silence: [() => undefined, /within 5\.0 s/],
    close: [(wire) => wire.cut('gone'), /gone/],
    'another number': [(wire) => wire.right.send(encodeBeat(true, 7)), /no gateway/],
    'a question back': [(wire, message) => wire.right.send(message), /no gateway/],
    'another message': [(wire) => wire.right.send(encodeClose(errors.draining, 'x')), /no gateway/],
  }
  for (const [what, [answer, says]] of Object.entries(answers)) {
    const { wire, clock, around } = world()
    wire.right.onMessage = (message) => answer(wire, message)
    const told: (string | undefined)[] = []
    probe(wire.left, around, WITHIN_MS, (failure) => told.push(failure))
    clock.run(() => false, 2 * WITHIN_MS)
    t.equal(told.length, 1, what)
    t.match(told[0], says)
    t.notOk(wire.isOpen)
  }
  t.end()
})

t.test('one that is given up is cut and tells nothing', (t) => {
  const { wire, clock, around } = world()
  const told: (string | undefined)[] = []
  const cancel = probe(wire.left, around, WITHIN_MS, (failure) => told.push(failure))
  cancel()
  clock.run(() => false, 2 * WITHIN_MS)
  t.same(told, [])
  t.notOk(wire.isOpen)
  t.end()
})

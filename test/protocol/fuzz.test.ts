// §8: whatever bytes an authenticated peer puts into a record, the session goes on or ends with protocol_error, and nothing else happens.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { opening, Recorder, SessionRecorder } from './parties.ts'
import { pair, Random } from './simulation.ts'

const ROUNDS = 6_000
const seed = Number(process.env['POSTERN_FUZZ_SEED'] ?? 20_261_124)
const records = (JSON.parse(readFileSync(new URL('../../protocol/vectors/records.json', import.meta.url), 'utf8')) as { hex: string }[]).map((vector) => Buffer.from(vector.hex, 'hex'))
/** Numbers at which a decoder may stumble. */
const EDGES = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xff]

function mutate(random: Random): Buffer {
  let bytes = Buffer.from(records[random.below(records.length)]!)
  for (let i = 1 + random.below(4); i > 0; i--) {
    const at = 2 + random.below(bytes.length - 2)
    switch (random.below(4)) {
      case 0:
        bytes[at] = EDGES[random.below(EDGES.length)]!
        break
      case 1:
        bytes[at] = bytes[at]! ^ (1 << random.below(8))
        break
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), random.bytes(random.below(12)), bytes.subarray(at)])
        break
      default:
        bytes = Buffer.concat([bytes.subarray(0, Math.max(3, at - random.below(8))), bytes.subarray(at)])
    }
  }
  return bytes
}

t.test(`records changed at random end in a session that goes on or in protocol_error (seed ${String(seed)})`, (t) => {
  const random = new Random(seed)
  let broken = 0
  for (let round = 0; round < ROUNDS; round++) {
    const world = pair(1, { policy: 'never' })
    const recorder = new SessionRecorder((_opened, stream) => {
      stream.sendHead([':status', '200'], undefined, false)
      return new Recorder()
    })
    world.agent.events = recorder
    // Some streams of our own that frames may meet.
    world.agent.open(opening(), new Recorder())
    world.wire.right.onMessage = () => undefined
    const bytes = mutate(random)
    world.wire.right.send(bytes)
    world.clock.run(() => false, 60)
    const end = recorder.events.find((event) => event.startsWith('end'))
    if (end === undefined) continue
    broken++
    if (!end.startsWith('end protocol_error')) t.fail(`${bytes.toString('hex')}: ${end}`)
    if (world.agent.budget.usedBytes !== 0) t.fail(`${bytes.toString('hex')}: the budget is not given back`)
  }
  t.ok(broken > ROUNDS / 3 && broken < ROUNDS, `${String(broken)} of ${String(ROUNDS)} broke the rules`)
  t.end()
})

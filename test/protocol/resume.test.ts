// §5, §6: nothing is lost and nothing comes twice while a seed cuts channels and moves lanes while the old channel still delivers.
import t from 'tap'
import { decodeChannelOpen } from '../../protocol/messages.ts'
import { opening, Echo, Sender, SessionRecorder, sha256 } from './parties.ts'
import { pair, Wire, type WireEnd } from './simulation.ts'

const STREAMS = 60
const BODY_MAX_BYTES = 300_000
const SIMULATED_LIMIT_MS = 600_000

interface Outcome {
  readonly cuts: number
  readonly moves: number
  readonly problems: string[]
}

/** Both ends open streams whose bodies come home as an echo; meanwhile channels are cut and lanes moved at random moments. */
function survive(seed: number, policy: 'always' | 'never', lanes: number): Outcome {
  const { clock, random, agent, gateway, wire } = pair(seed, { policy, lanes, delayMs: (from) => 1 + from.below(20) })
  const problems: string[] = []
  let cuts = 0
  let moves = 0
  let wires = [wire]
  let opened = 0
  const senders: { sender: Sender; body: Buffer }[] = []
  const recorders = [agent, gateway].map((session) => (session.events = new SessionRecorder((opened, stream) => new Echo(opened, stream))))

  const openStream = (): void => {
    if (opened >= STREAMS) return
    opened++
    const body = random.bytes(random.below(4) === 0 ? random.below(BODY_MAX_BYTES) : random.below(2_000))
    const sender = new Sender(body, () => 1 + random.below(40_000))
    const stream = (random.below(2) === 0 ? agent : gateway).open(opening(), sender)
    if (stream === undefined) return
    senders.push({ sender, body })
    sender.start(stream)
    clock.later(random.below(60), openStream)
  }

  // A new channel, opened by the agent while older ones may still deliver.
  const openChannel = (): void => {
    const next = new Wire(clock, () => 1 + random.below(20))
    next.right.onMessage = (message) => {
      const { channelNumber, marks } = decodeChannelOpen(message)
      if (gateway.acceptChannel(next.right, message, channelNumber, marks) !== undefined) next.cut('refused')
    }
    wires.push(next)
    const which = random.below(3) === 0 ? [random.below(lanes)] : undefined
    agent.openChannel(next.left, (refusal) => (refusal === undefined ? moves++ : undefined), which)
  }

  const disturb = (): void => {
    wires = wires.filter((one) => one.isOpen)
    if (random.below(2) === 0 && wires.length > 0) {
      cuts++
      wires[random.below(wires.length)]!.cut('by the seed')
    }
    if (wires.length < 4) openChannel()
    const known = agent.carriers
    if (random.below(3) === 0 && known.length > 0) agent.attach(known[random.below(known.length)] as WireEnd, [random.below(lanes)], (refusal) => (refusal === undefined ? moves++ : undefined))
    clock.later(5 + random.below(60), disturb)
  }

  openStream()
  disturb()
  const whole = (): boolean => opened >= STREAMS && senders.every(({ sender }) => sender.receivedHash !== undefined)
  if (!clock.run(() => whole() || agent.ended || gateway.ended, SIMULATED_LIMIT_MS)) problems.push(`${String(senders.filter(({ sender }) => sender.receivedHash === undefined).length)} bodies never came home`)
  for (const { sender, body } of senders) {
    if (sender.receivedHash !== sha256(body)) problems.push(`a body of ${String(body.length)} bytes came home as ${String(sender.receivedBytes)} others`)
    if (sender.events.join() !== `head 200,end x-sent=${String(body.length)}`) problems.push(`events out of order: ${sender.events.join()}`)
  }
  for (const { events } of recorders) problems.push(...events.filter((event) => event.startsWith('end')))
  if (agent.streamCount + gateway.streamCount !== 0) problems.push('streams are left over')
  return { cuts, moves, problems }
}

for (const policy of ['always', 'never'] as const) {
  for (const lanes of [1, 3]) {
    t.test(`every frame arrives once and in order over channels that are cut and lanes that move (${policy}, ${String(lanes)} lanes)`, (t) => {
      let cuts = 0
      let moves = 0
      for (let seed = 1; seed <= 15; seed++) {
        const outcome = survive(seed * 7_919, policy, lanes)
        t.same(outcome.problems, [], `seed ${String(seed * 7_919)}: ${String(outcome.cuts)} cuts, ${String(outcome.moves)} moves`)
        cuts += outcome.cuts
        moves += outcome.moves
      }
      t.ok(cuts > 150 && moves > 150, `${String(cuts)} cuts and ${String(moves)} moves were survived`)
      t.end()
    })
  }
}

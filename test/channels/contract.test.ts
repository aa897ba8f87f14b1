// The contract of a carrier, run over every channel between its real ends, through a link that cuts bytes into tiny pieces as well as directly.
import t from 'tap'
import { MESSAGE_MAX_BYTES } from '../../protocol/limits.ts'
import { until } from '../harness/until.ts'
import { Random } from '../protocol/simulation.ts'
import { KINDS, startRig } from './ends.ts'

const SIZES = [1, 2, 3, 125, 126, 127, 4_096, 65_535, 65_536, MESSAGE_MAX_BYTES - 1, MESSAGE_MAX_BYTES]
const EVIL = [
  Buffer.from('\n'),
  Buffer.from('\r\n\r\n'),
  Buffer.alloc(3),
  Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from('data: x\n\n'),
  Buffer.from([0xff, 0xfe, 0xc0, 0x80]),
  Buffer.from('\u2028💥'),
]

for (const [name, kind] of Object.entries(KINDS)) {
  t.test(`${name}: it knows its kind`, async (t) => {
    const { agent, gateway } = await (await startRig(t, kind)).join()
    t.equal(agent.carrier.kind, kind.kind)
    t.equal(gateway.carrier.kind, kind.kind)
  })

  for (const [how, harm] of [['directly', {}], ['in tiny pieces', { seed: 3, pieceMaxBytes: 700 }]] as const) {
    t.test(`${name}: messages of every size and content arrive whole and in order, both ways at once, ${how}`, async (t) => {
      const { agent, gateway } = await (await startRig(t, kind, harm)).join()
      const random = new Random(1)
      const sent = [...SIZES.map((bytes) => random.bytes(bytes)), ...EVIL, ...Array.from({ length: 1_000 }, (_value, i) => Buffer.from(`message ${String(i)}`))]
      for (const message of sent) {
        agent.carrier.send(message)
        gateway.carrier.send(message)
      }
      await until('all are there', () => agent.messages.length === sent.length && gateway.messages.length === sent.length)
      for (const end of [agent, gateway]) t.ok(end.messages.every((message, i) => message.equals(sent[i]!)))
      t.same([agent.closed, gateway.closed], [[], []])
    })
  }

  t.test(`${name}: close lets what was sent arrive, and each end is told once, whichever closes`, async (t) => {
    for (const first of ['agent', 'gateway'] as const) {
      const { agent, gateway } = await (await startRig(t, kind)).join()
      const [closing, other] = first === 'agent' ? [agent, gateway] : [gateway, agent]
      for (let i = 0; i < 50; i++) closing.carrier.send(Buffer.alloc(10_000, i))
      closing.carrier.close()
      closing.carrier.close()
      await until('both are closed', () => agent.closed.length > 0 && gateway.closed.length > 0)
      t.equal(other.messages.length, 50)
      closing.carrier.send(Buffer.of(1))
      closing.carrier.abort()
      t.same([agent.closed.length, gateway.closed.length], [1, 1])
    }
  })

  t.test(`${name}: abort and a cut amid a message are told at both ends, once`, async (t) => {
    for (const how of ['agent', 'gateway', 'link'] as const) {
      const rig = await startRig(t, kind, { seed: 5, pieceMaxBytes: 5_000 })
      const { agent, gateway } = await rig.join()
      for (let i = 0; i < 20; i++) agent.carrier.send(Buffer.alloc(20_000, 7))
      await until('some of it is there', () => gateway.messages.length > 0)
      if (how === 'link') rig.link.cut()
      else (how === 'agent' ? agent : gateway).carrier.abort()
      await until(`both are told (${how})`, () => agent.closed.length > 0 && gateway.closed.length > 0)
      t.same([agent.closed.length, gateway.closed.length], [1, 1])
      t.ok(gateway.messages.every((message) => message.length === 20_000), 'no half of a message')
    }
  })

  t.test(`${name}: half of a connection is no channel: its end in one direction is told at both ends`, async (t) => {
    for (const towards of ['near', 'target'] as const) {
      const rig = await startRig(t, kind)
      const { agent, gateway } = await rig.join()
      rig.link.halfClose(towards)
      await until(`both are told (${towards})`, () => agent.closed.length > 0 && (gateway.closed.length > 0 || kind.silentCuts === true))
      t.equal(agent.closed.length, 1)
    }
  })

  t.test(`${name}: a full channel says so, takes heartbeats all the same, and tells when there is room`, async (t) => {
    for (const slow of ['agent', 'gateway'] as const) {
      const rig = await startRig(t, kind, { seed: 7 })
      const { agent, gateway } = await rig.join()
      const [sender, receiver] = slow === 'agent' ? [gateway, agent] : [agent, gateway]
      rig.link.stall()
      let sent = 0
      while (sender.carrier.send(Buffer.alloc(60_000)) && sent < 1_000) sent++
      t.ok(sender.carrier.queuedBytes! > 0, 'and counts what has not left')
      t.ok(sent < 1_000, 'it says stop')
      t.equal(sender.carrier.send(Buffer.from('beat')), false, 'and goes on saying so')
      t.equal(sender.drains, 0)
      rig.link.resume()
      await until('there is room', () => sender.drains > 0)
      await until('all is there', () => receiver.messages.length === sent + 2)
      t.equal(receiver.messages.at(-1)!.toString(), 'beat')
      t.equal(sender.drains, 1)
    }
  })

  t.test(`${name}: what waits for a slow reader is bounded, and all of it comes`, async (t) => {
    const rig = await startRig(t, kind)
    const { agent, gateway } = await rig.join()
    const message = new Random(11).bytes(60_000)
    let sent = 0
    let mayGo = true
    const pump = (): void => {
      while (mayGo && sent < 400) {
        mayGo = agent.carrier.send(message)
        sent++
      }
    }
    const drained = agent.carrier.onDrain
    agent.carrier.onDrain = () => {
      drained()
      mayGo = true
      pump()
    }
    rig.link.stall()
    pump()
    await until('it is full', () => !mayGo)
    const held = sent
    t.ok(held < 300, `${String(held)} messages were taken though nobody reads`)
    rig.link.resume()
    await until('all is there', () => gateway.messages.length === 400)
    t.ok(gateway.messages.every((each) => each.equals(message)))
  })

  t.test(`${name}: a peer that takes nothing, however much it asks for, is cut off`, async (t) => {
    const rig = await startRig(t, kind)
    for (const who of ['gateway', 'agent'] as const) {
      const { [who]: end } = await rig.join()
      rig.link.stall()
      while (end.carrier.send(Buffer.alloc(60_000)));
      const answer = Buffer.alloc(6)
      for (let i = 0; i < 70_000; i++) end.carrier.send(answer)
      await until(`the ${who} has cut it off`, () => end.closed.length > 0)
      t.equal(end.closed.length, 1)
      rig.link.resume()
    }
  })

  t.test(`${name}: a message beyond the bound closes the channel`, async (t) => {
    const { agent, gateway } = await (await startRig(t, kind)).join()
    agent.carrier.send(Buffer.alloc(MESSAGE_MAX_BYTES + 1))
    await until('it is closed', () => gateway.closed.length > 0)
    t.equal(gateway.messages.length, 0)
  })

  t.test(`${name}: after each cut another channel comes by the same way`, async (t) => {
    const rig = await startRig(t, kind, { seed: 9, pieceMaxBytes: 3_000 })
    for (let i = 0; i < 5; i++) {
      const { agent, gateway } = await rig.join()
      agent.carrier.send(Buffer.alloc(50_000, i))
      gateway.carrier.send(Buffer.alloc(50_000, i))
      if (i % 2 === 0) await until('both heard', () => agent.messages.length === 1 && gateway.messages.length === 1)
      rig.link.cut()
      await until('both are told', () => agent.closed.length > 0 && (gateway.closed.length > 0 || kind.silentCuts === true))
      t.ok([...agent.messages, ...gateway.messages].every((message) => message.equals(Buffer.alloc(50_000, i))), 'nothing of another channel')
    }
    t.equal(rig.came.length, 5)
  })
}

// What an agent says of itself is heard, within bounds, and nothing that it says harms anybody else (SPEC §10.2).
import t from 'tap'
import type { Session } from '../../protocol/session.ts'
import { NO_FIELDS, type Stream, StreamKind } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { answers, events, Rig } from './gateway-rig.ts'

const CHANNEL = { kind: 'sse', way: 'forward http://proxy:3128', round_trip_ms: 12.5, lanes: [0] }

/** Opens a status stream that begins with `line`. */
function say(session: Session, line: string, told: string[] = []): Stream {
  const opening = { kind: StreamKind.status, uuid: '0'.repeat(32), service: '', fields: NO_FIELDS, extension: NO_FIELDS, body: Buffer.from(line), ended: false }
  return session.open(opening, events({ onReset: (code, begun) => told.push(`${code.name} ${String(begun)}`) }))!
}

async function start(t: { teardown(undo: () => void): void }): Promise<Rig> {
  const rig = await Rig.start(t)
  for (const id of ['a', 'b']) rig.allow(id, [id])
  await rig.agent('a', answers(200, 'ok'))
  await rig.agent('b', answers(200, 'ok'))
  return rig
}

const heard = (rig: Rig, id: string): unknown => [...rig.registry.members()].find((member) => member.agentId === id)?.status?.said

t.test('the last line counts, members that nobody knows are passed over, and there is one stream', async (t) => {
  const rig = await start(t)
  const { session } = rig.agents[0]!
  const stream = say(session, `${JSON.stringify({ channels: [], exchanges: 0 })}\n`)
  await until('the first line is heard', () => heard(rig, 'a') !== undefined)
  t.same(heard(rig, 'a'), { channels: [], exchanges: 0 })
  stream.write(Buffer.from(`${JSON.stringify({ channels: [{ ...CHANNEL, more: 1 }], exchanges: 3, more: {} })}\n{"chann`))
  await until('the second is', () => JSON.stringify(heard(rig, 'a')) !== JSON.stringify({ channels: [], exchanges: 0 }))
  t.same(heard(rig, 'a'), { channels: [CHANNEL], exchanges: 3 })
  t.equal(heard(rig, 'b'), undefined)
  const told: string[] = []
  say(session, '', told)
  await until('a second stream is refused', () => told.length === 1)
  t.same(told, ['refused false'])
  stream.end()
  await until('one that says no more is not listened to', () => heard(rig, 'a') === undefined)
})

for (const [what, line] of [
  ['what is no JSON', 'oh\n'],
  ['another form', '{"channels":3,"exchanges":0}\n'],
  ['no count', '{"channels":[],"exchanges":-1}\n'],
  ['too many channels', `${JSON.stringify({ channels: Array.from({ length: 33 }, () => CHANNEL), exchanges: 0 })}\n`],
  ['a way that is no plain text', `${JSON.stringify({ channels: [{ ...CHANNEL, way: '\u001b[31m' }], exchanges: 0 })}\n`],
  ['a lane that is none', `${JSON.stringify({ channels: [{ ...CHANNEL, lanes: ['0'] }], exchanges: 0 })}\n`],
  ['a line without an end', 'x'.repeat(16_385)],
] as const) t.test(`an agent that says ${what} is out, and no other is`, async (t) => {
  const rig = await start(t)
  say(rig.agents[0]!.session, line.slice(0, 4_000)).write(Buffer.from(line.slice(4_000)))
  await until('it is out', () => rig.notes.includes('ended a protocol_error'))
  t.equal(await rig.ask('b').done(), 'head 200, end')
})

// Visitors who stop reading: they cost what their windows may hold, and another visitor on the same session is served at once.
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { FIRST_CREDIT_BYTES, SCARCE_CREDIT_BYTES, SESSION_BUDGET_BYTES } from '../../protocol/limits.ts'
import type { Stream } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { type Asked, events, Rig } from './gateway-rig.ts'

const STALLED = 2_000

t.test('2,000 visitors who stop reading after the head hold up nobody and stay in their budget', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let endless = 0
  const body = Buffer.alloc(FIRST_CREDIT_BYTES, 'x')
  await rig.agent('a', (opening, stream) => {
    if (opening.fields[1] === 'HEAD') {
      stream.sendHead([':status', '204'], undefined, true)
      return events()
    }
    endless++
    stream.sendHead([':status', '200'], undefined, false)
    const write = (): void => {
      while (stream.write(body));
    }
    write()
    return events({ onDrain: write })
  })
  const stalled: Asked[] = []
  // Each reads what comes and takes none of it.
  for (let i = 0; i < STALLED; i++) stalled.push(rig.ask('demo', { reads: false }))
  await until('all have their head', () => stalled.every(({ status }) => status === 200))
  t.equal(endless, STALLED)
  const quick = rig.ask('demo', { method: 'HEAD' })
  t.equal(await quick.done(), 'head 204, end')

  // Every one of them sends until its window is full, and not a byte further.
  const windows = (asked: Asked): boolean => asked.body.length === FIRST_CREDIT_BYTES || asked.body.length === SCARCE_CREDIT_BYTES
  await until('the windows are full', () => stalled.every(windows))
  const held = stalled.reduce((sum, { body: got }) => sum + got.length, 0)
  t.ok(held <= SESSION_BUDGET_BYTES + STALLED * SCARCE_CREDIT_BYTES, `${String(held)} bytes are held`)
  t.ok(rig.environment.budget.usedBytes >= held)
  const another = rig.ask('demo', { method: 'HEAD' })
  t.equal(await another.done(), 'head 204, end')

  for (const asked of stalled) asked.exchange.cancel(errors.cancelled)
  t.equal(rig.gateway.underWay, 0)
  t.ok(rig.environment.budget.usedBytes <= FIRST_CREDIT_BYTES, 'all is given back')
})

t.test('an agent that does not read a body stops that body only', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const streams: Stream[] = []
  await rig.agent('a', (opening, stream) => {
    if (opening.fields[1] === 'POST') {
      streams.push(stream)
      return events()
    }
    stream.sendHead([':status', '200'], undefined, true)
    return events()
  })
  const stuck = rig.ask('demo', { method: 'POST', complete: false })
  const chunk = Buffer.alloc(65_536)
  // Credit takes one window, the stream's queue holds another.
  t.notOk(stuck.exchange.write(chunk))
  await until('the first window left', () => stuck.drains === 1)
  t.notOk(stuck.exchange.write(chunk))
  t.equal(await rig.ask('demo').done(), 'head 200, end')
  streams[0]!.consumed(65_536)
  await until('it goes on', () => stuck.drains === 2)
})

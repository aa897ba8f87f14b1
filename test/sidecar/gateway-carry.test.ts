// The gateway library with real agents: what is passed on, what is tried again, what is cancelled.
import t from 'tap'
import { type ErrorCode, errors } from '../../protocol/errors.ts'
import type { Stream } from '../../protocol/stream.ts'
import { until } from '../harness/until.ts'
import { answers, events, type Origin, Rig } from './gateway-rig.ts'

t.test('a small answer is one head with its body', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  await rig.agent('a', answers(200, 'hello'))
  const asked = rig.ask('demo')
  t.equal(await asked.done(), 'head 200, end')
  t.equal(asked.body.toString(), 'hello')
  t.equal(rig.gateway.underWay, 0)
  t.equal(rig.environment.budget.usedBytes, controlWindow(rig))
})

t.test('interim heads, body and trailers come in order', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  await rig.agent('a', (_opening, stream) => {
    stream.sendHead([':status', '103', 'link', '</a>'], undefined, false)
    stream.sendHead([':status', '200'], undefined, false)
    stream.write(Buffer.from('one'))
    stream.end(['x-sum', '1'])
    return events()
  })
  const asked = rig.ask('demo')
  t.equal(await asked.done(), 'interim 103, head 200, end')
  t.equal(asked.body.toString(), 'one')
  t.same(asked.trailers, ['x-sum', '1'])
})

t.test('an interim head with a field that is none never reaches the visitor', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  await rig.agent('a', (_opening, stream) => {
    stream.sendHead([':status', '103', 'link', 'a\r\nset-cookie: b'], undefined, false)
    return events()
  })
  t.equal(await rig.ask('demo').done(), 'fail agent_protocol')
})

t.test('a large body goes up and down whole, with credit', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  await rig.agent('a', (_opening, stream) => {
    let owed = 0
    stream.sendHead([':status', '200'], undefined, false)
    const give = (): void => {
      stream.consumed(owed)
      owed = 0
    }
    return events({
      onData(chunk) {
        owed += chunk.length
        if (stream.write(chunk)) give()
      },
      onDrain: give,
      onEnd: () => stream.end(),
    })
  })
  const asked = rig.ask('demo', { method: 'POST', complete: false })
  for (let i = 0; i < 40; i++) {
    const { drains } = asked
    if (!asked.exchange.write(Buffer.alloc(50_000, 'x'))) await until('there is room', () => asked.drains > drains)
  }
  asked.exchange.end()
  t.equal(await asked.done(), 'head 200, end')
  t.equal(asked.body.length, 2_000_000)
  t.equal(rig.gateway.underWay, 0)
})

t.test('what the first agent refuses, unbegun, the second gets whole, whatever the method', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let refused = 0
  let body = ''
  const origin: Origin = (opening, stream) => {
    if (refused === 0) {
      refused++
      return errors.refused
    }
    body += Buffer.from(opening.body).toString()
    const answer = (): void => stream.sendHead([':status', '200'], undefined, true)
    if (opening.ended) answer()
    return events({ onData: (chunk) => (body += Buffer.from(chunk).toString()), onEnd: answer })
  }
  await rig.agent('a', origin)
  await rig.agent('a', origin)
  t.equal(await rig.ask('demo', { method: 'POST', body: Buffer.from('whole') }).done(), 'head 200, end')
  t.equal(body, 'whole')
  refused = 0
  body = ''
  const asked = rig.ask('demo', { method: 'POST', complete: false, body: Buffer.from('in ') })
  asked.exchange.write(Buffer.from('several '))
  asked.exchange.write(Buffer.from('pieces'))
  asked.exchange.end()
  t.equal(await asked.done(), 'head 200, end')
  t.equal(body, 'in several pieces')
})

t.test('with one agent, its refusal is the answer', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  await rig.agent('a', () => errors.origin_refused)
  const asked = rig.ask('demo')
  t.equal(await asked.done(), 'fail origin_refused')
  t.match(asked.detail, /agent a/)
})

t.test('three agents are tried and no fourth', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let tries = 0
  const origin: Origin = () => {
    tries++
    return errors.refused
  }
  for (let i = 0; i < 4; i++) await rig.agent('a', origin)
  t.equal(await rig.ask('demo').done(), 'fail refused')
  t.equal(tries, 3)
})

t.test('a body that is held no more is sent once', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let tries = 0
  const origin: Origin = (_opening, stream) => {
    tries++
    return events({
      onData(chunk) {
        stream.consumed(chunk.length)
        stream.reset(errors.refused, false)
      },
    })
  }
  await rig.agent('a', origin)
  await rig.agent('a', origin)
  const asked = rig.ask('demo', { method: 'PUT', complete: false })
  asked.exchange.write(Buffer.alloc(40_000))
  asked.exchange.write(Buffer.alloc(40_000))
  t.equal(await asked.done(), 'fail refused')
  t.equal(tries, 1)
})

t.test('a POST whose agent is killed reaches one origin only, a GET is served by the other', async (t) => {
  const rig = await Rig.start(t, { times: { graceMs: 20 } })
  rig.allow('a', ['demo'])
  let reached = 0
  const silent: Origin = () => {
    reached++
    return events()
  }
  const first = await rig.agent('a', silent)
  const post = rig.ask('demo', { method: 'POST', body: Buffer.from('pay') })
  const get = rig.ask('demo')
  await until('both arrived', () => reached === 2)
  await rig.agent('a', answers(200, 'second'))
  await first.cut()
  t.equal(await post.done(), 'fail agent_lost')
  t.equal(await get.done(), 'head 200, end')
  t.equal(reached, 2)
})

t.test('an agent killed mid-answer breaks it visibly', async (t) => {
  const rig = await Rig.start(t, { times: { graceMs: 20 } })
  rig.allow('a', ['demo'])
  const agent = await rig.agent('a', (_opening, stream) => {
    stream.sendHead([':status', '200', 'content-length', '100'], Buffer.from('half'), false)
    return events()
  })
  const asked = rig.ask('demo')
  await until('the head came', () => asked.status === 200)
  await agent.cut()
  t.equal(await asked.done(), 'head 200, fail agent_lost')
})

t.test('a channel that dies and comes back loses nothing of an answer', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let stream: Stream | undefined
  const agent = await rig.agent('a', (_opening, opened) => {
    stream = opened
    opened.sendHead([':status', '200'], Buffer.from('one '), false)
    return events()
  })
  const asked = rig.ask('demo')
  await until('the head came', () => asked.status === 200)
  await agent.cut()
  stream!.write(Buffer.from('two'))
  stream!.end()
  await agent.resume()
  t.equal(await asked.done(), 'head 200, end')
  t.equal(asked.body.toString(), 'one two')
  t.ok(rig.notes.includes('resumed a'))
})

t.test('a visitor who leaves is told to the agent, and hears nothing more', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let told = ''
  await rig.agent('a', (_opening, stream) => {
    stream.sendHead([':status', '200'], Buffer.from('first'), false)
    return events({ onReset: (code) => (told = code.name) })
  })
  const asked = rig.ask('demo')
  await until('the head came', () => asked.status === 200)
  asked.exchange.cancel(errors.cancelled)
  await until('the agent knows', () => told !== '')
  t.equal(told, 'cancelled')
  t.same(asked.events, ['head 200'])
  t.equal(rig.gateway.underWay, 0)
  asked.exchange.cancel(errors.cancelled)
  asked.exchange.consumed(5)
  t.equal(rig.gateway.underWay, 0)
})

t.test('an agent that does not begin to answer in time is told to stop', async (t) => {
  const rig = await Rig.start(t, { gatewayTimes: { headTimeoutMs: 30 } })
  rig.allow('a', ['demo'])
  const told: string[] = []
  await rig.agent('a', () => events({ onReset: (code) => told.push(code.name) }))
  const complete = rig.ask('demo')
  const upgrade = rig.ask('demo', { complete: false, protocol: 'websocket' })
  const uploading = rig.ask('demo', { method: 'POST', complete: false })
  t.equal(await complete.done(), 'fail agent_timeout')
  t.equal(await upgrade.done(), 'fail agent_timeout')
  await until('the agent knows', () => told.length === 2)
  t.notOk(uploading.over, 'an upload may take its time')
  uploading.exchange.end()
  t.equal(await uploading.done(), 'fail agent_timeout')
})

t.test('an agent that reads no more of the body is heard, and its answer counts', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  await rig.agent('a', (_opening, stream) => {
    stream.stop(errors.cancelled)
    stream.sendHead([':status', '413'], undefined, true)
    return events()
  })
  const asked = rig.ask('demo', { method: 'POST', complete: false })
  t.equal(await asked.done(), 'stopped, head 413, end')
  t.ok(asked.exchange.write(Buffer.alloc(100_000)), 'the rest is dropped')
  t.equal(rig.gateway.underWay, 0)
})

t.test('an answer before the end of the upload leaves the upload going', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let got = 0
  await rig.agent('a', (_opening, stream) => {
    stream.sendHead([':status', '200'], Buffer.from('early'), true)
    return events({
      onData(chunk) {
        got += chunk.length
        stream.consumed(chunk.length)
      },
    })
  })
  const asked = rig.ask('demo', { method: 'POST', complete: false })
  t.equal(await asked.done(), 'head 200, end')
  t.equal(rig.gateway.underWay, 1)
  for (let i = 0; i < 10; i++) {
    const { drains } = asked
    if (!asked.exchange.write(Buffer.alloc(65_536))) await until('it may go on', () => asked.drains > drains)
  }
  asked.exchange.end()
  await until('it arrived', () => got === 655_360)
  t.equal(rig.gateway.underWay, 0)
})

t.test('an upload that nobody reads any more after its answer is let go', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  for (const leave of [(stream: Stream) => stream.stop(errors.cancelled), (stream: Stream) => stream.reset(errors.cancelled, true)]) {
    let stream: Stream | undefined
    const agent = await rig.agent('a', (_opening, opened) => {
      stream = opened
      opened.sendHead([':status', '200'], undefined, true)
      return events()
    })
    const asked = rig.ask('demo', { method: 'POST', complete: false, body: Buffer.alloc(65_536) })
    t.equal(await asked.done(), 'head 200, end')
    t.notOk(asked.exchange.write(Buffer.alloc(65_536)))
    leave(stream!)
    await until('it may go on', () => asked.drains === 1)
    t.ok(asked.exchange.write(Buffer.alloc(65_536)))
    t.equal(rig.gateway.underWay, 0)
    agent.session.end(errors.draining, 'the next one')
    await until('it left', () => [...rig.registry.members()].length === 0)
  }
})

t.test('what an agent says of nobody or of the gateway is shown as its own fault', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let code: ErrorCode = errors.gateway_fault
  await rig.agent('a', () => code)
  t.equal(await rig.ask('demo').done(), 'fail agent_protocol')
  code = errors.cancelled
  t.equal(await rig.ask('demo').done(), 'fail agent_protocol')
})

t.test('a head over the limits is refused and nothing is sent', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  let reached = 0
  await rig.agent('a', () => {
    reached++
    return errors.refused
  })
  const asked = rig.ask('demo', { method: 'X'.repeat(70_000) })
  t.equal(asked.failure?.name, 'head_too_large')
  t.equal(rig.gateway.underWay, 0)
  t.equal(reached, 0)
})

t.test('a full budget refuses newcomers', async (t) => {
  const rig = await Rig.start(t, { budgetBytes: 200_000 })
  rig.allow('a', ['demo'])
  await rig.agent('a', () => events())
  const open = []
  for (let i = 0; i < 20; i++) open.push(rig.ask('demo'))
  t.equal(open.at(-1)?.failure?.name, 'gateway_full')
  for (const asked of open) asked.exchange.cancel(errors.cancelled)
  t.notOk(rig.ask('demo').failure)
})

t.test('leaving waits for what is under way, and no longer than it may', async (t) => {
  const rig = await Rig.start(t, { gatewayTimes: { drainMs: 60_000 } })
  rig.allow('a', ['demo'])
  const streams: Stream[] = []
  await rig.agent('a', (_opening, stream) => {
    streams.push(stream)
    return events()
  })
  await rig.gateway.leave()
  const asked = rig.ask('demo')
  await until('it arrived', () => streams.length === 1)
  const left = rig.gateway.leave()
  streams[0]!.sendHead([':status', '200'], undefined, true)
  await left
  t.equal(asked.status, 200)

  const impatient = await Rig.start(t, { gatewayTimes: { drainMs: 20 } })
  impatient.allow('a', ['demo'])
  await impatient.agent('a', () => events())
  const hanging = impatient.ask('demo')
  await impatient.gateway.leave()
  t.equal(impatient.gateway.underWay, 1)
  impatient.registry.end(errors.gateway_leaving, 'leaving')
  t.equal(hanging.failure?.name, 'gateway_leaving')
})

t.test('visitors who leave at any moment never give another one a byte', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  await rig.agent('a', (opening, stream) => {
    const canary = Buffer.from(opening.uuid)
    stream.sendHead([':status', '200'], canary, false)
    stream.write(Buffer.concat(Array.from({ length: 50 }, () => canary)))
    stream.end()
    return events()
  })
  const asked = Array.from({ length: 2_000 }, () => rig.ask('demo'))
  // Some before anything is sent, some while answers come, some after.
  for (let i = 0; i < asked.length; i += 7) asked[i]!.exchange.cancel(errors.cancelled)
  await until('answers come', () => asked.some(({ status }) => status === 200))
  for (let i = 0; i < asked.length; i += 3) asked[i]!.exchange.cancel(errors.cancelled)
  const staying = asked.filter((_one, i) => i % 7 !== 0 && i % 3 !== 0)
  await Promise.all(staying.map((one) => one.done()))
  for (const one of staying) if (one.body.length !== 51 * 32) throw new Error(`${String(one.body.length)} bytes`)
  for (const one of asked) if (!one.body.toString().split(one.uuid).every((rest) => one.uuid.startsWith(rest))) throw new Error('a foreign byte')
  t.equal(rig.gateway.underWay, 0)
  t.equal(rig.environment.budget.usedBytes, controlWindow(rig))
})

/** What the standing control stream's window takes. */
function controlWindow(rig: Rig): number {
  return [...rig.registry.members()].length * 65_536
}

t.test('an exchange that is over is counted off once, whatever the agent says after its answer', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('a', ['demo'])
  const streams: Stream[] = []
  const agent = await rig.agent('a', (_opening, stream) => {
    streams.push(stream)
    return events()
  })
  for (const last of ['stop', 'reset'] as const) {
    // More than the agent gives credit for: the request is complete, and the rest of it waits in the stream.
    const asked = rig.ask('demo', { method: 'POST', body: Buffer.alloc(100_000) })
    await until('it is there', () => streams.length === 1)
    const stream = streams.pop()!
    stream.sendHead([':status', '413'], undefined, true)
    if (last === 'stop') stream.stop(errors.cancelled)
    else stream.reset(errors.cancelled, true)
    t.equal(await asked.done(), 'head 413, end')
    await until('the stream is gone', () => [...rig.registry.members()][0]!.session.streamCount === 1)
    t.equal(rig.gateway.underWay, 0, last)
  }
  agent.session.end(errors.cancelled, 'the test is over')
})

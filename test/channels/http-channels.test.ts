// Requests of http channels as anybody may send them to the gateway's doorway: replayed, reordered, forged, cut, too large; each refused with a reason, no byte wrong.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { processEnvironment } from '../../agent/environment.ts'
import { encodeBeat, encodeClose } from '../../protocol/messages.ts'
import { errors } from '../../protocol/errors.ts'
import { BODY_MAX_BYTES, hashOf, NO_MAC, WaitingMessages } from '../../protocol/http-channel.ts'
import { Session } from '../../protocol/session.ts'
import { SseCarrier } from '../../sidecar/sse.ts'
import { until } from '../harness/until.ts'
import { Agent, answers, Rig } from '../sidecar/gateway-rig.ts'
import { ask, begin, ByHand, type RawAnswer, request } from './by-hand.ts'

const BEAT = bodyOf(encodeBeat(false, 1))

function bodyOf(...messages: Buffer[]): Buffer {
  const waiting = new WaitingMessages()
  for (const message of messages) waiting.add(message)
  return waiting.take()
}

interface In {
  readonly rig: Rig
  readonly hand: ByHand
  readonly session: Session
}

/** An agent that is in over a long-poll channel, by hand; the first answer that its key was needed for is still to come. */
async function loggedIn(t: Test, rig?: Rig): Promise<In> {
  rig ??= await Rig.start(t)
  const id = `agent-${String(rig.agents.length)}-${randomBytes(2).toString('hex')}`
  rig.allow(id, ['demo'])
  const hand = await ByHand.open(rig.port)
  const login = rig.login(id, { carrier: hand })
  await hand.say()
  await hand.hear()
  await hand.say()
  await hand.hear()
  const { outcome } = await login
  if (!(outcome instanceof Session)) throw new Error(outcome.detail)
  t.teardown(() => outcome.end(errors.cancelled, 'the test is over'))
  return { rig, hand, session: outcome }
}

const words = ({ status, body }: RawAnswer): string => `${String(status)} ${body.toString()}`.trim()
const isIn = ({ rig, session }: In): boolean => [...rig.registry.members()].some((member) => member.session.id === session.id && member.session.attached)

/** Proves that the channel is none the worse: a beat is answered. */
async function works(t: Test, { rig, hand }: In): Promise<void> {
  t.equal(words(await ask(rig.port, hand.bytes('POST', { body: BEAT }))), '204')
  hand.counters.POST++
  const answer = await ask(rig.port, hand.bytes('GET'))
  hand.counters.GET++
  t.same([answer.status, answer.body], [200, bodyOf(encodeBeat(true, 1))], 'the channel works')
}

t.test('a POST that was had is refused, and does nothing', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const bytes = hand.bytes('POST', { body: BEAT })
  t.equal(words(await ask(rig.port, bytes)), '204')
  hand.counters.POST++
  for (let i = 0; i < 3; i++) t.match(words(await ask(rig.port, bytes)), /^409 POST \d was had/)
  const answer = await ask(rig.port, hand.bytes('GET'))
  hand.counters.GET++
  t.same(answer.body, bodyOf(encodeBeat(true, 1)), 'one answer to one beat')
  await works(t, agent)
})

t.test('a POST that overtook another ends the channel: something was lost', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  t.match(words(await ask(rig.port, hand.bytes('POST', { body: BEAT, counter: hand.counters.POST + 1 }))), /^409 POST \d was lost/)
  t.notOk(isIn(agent))
  t.match(words(await ask(rig.port, hand.bytes('POST', { body: BEAT }))), /^403 there is no such channel/, 'and the late one finds none')
})

t.test('a poll with a counter from the future ends the channel; one that was had does not', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  t.match(words(await ask(rig.port, hand.bytes('GET', { counter: hand.counters.GET - 1 }))), /^409 GET \d was had/)
  await works(t, agent)
  t.match(words(await ask(rig.port, hand.bytes('GET', { counter: 2 ** 53 - 1 }))), /^409 GET \d was lost/)
  t.notOk(isIn(agent))
})

t.test('of two polls at once the second is refused, and the first is answered', async (t) => {
  const { rig, hand } = await loggedIn(t)
  const first = begin(rig.port, hand.bytes('GET'))
  hand.counters.GET++
  const second = hand.bytes('GET')
  await until('it waits', async () => words(await ask(rig.port, second)).startsWith('409 there is a GET under way'))
  t.notOk(first.heard())
  t.equal(words(await ask(rig.port, hand.bytes('POST', { body: BEAT }))), '204')
  t.same((await first.answer).body, bodyOf(encodeBeat(true, 1)))
})

t.test('of two POSTs at once the second is refused, and the first is taken', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const bytes = hand.bytes('POST', { body: BEAT })
  const first = begin(rig.port, bytes.subarray(0, -1))
  await until('it is under way', async () => words(await ask(rig.port, hand.bytes('POST', { body: BEAT }))).startsWith('409 there is a POST under way'))
  first.socket.write(bytes.subarray(-1))
  t.equal(words(await first.answer), '204')
  hand.counters.POST++
  t.same((await ask(rig.port, hand.bytes('GET'))).body, bodyOf(encodeBeat(true, 1)))
})

t.test('whoever has not the key of the session gets nothing in and nothing out, and the channel is none the worse', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const other = await loggedIn(t, rig)
  for (const method of ['GET', 'POST'] as const) {
    const body = method === 'POST' ? { body: BEAT } : {}
    const right = hand.proof!.mac(method === 'GET' ? 'POST' : 'GET', hand.counters[method], hashOf(body.body ?? Buffer.alloc(0)))
    for (const [what, change] of [
      ['no MAC', { mac: NO_MAC }],
      ['a MAC of zeros', { mac: Buffer.alloc(16) }],
      ['a MAC for the other method', { mac: right }],
      ['a MAC of another session', { proof: other.hand.proof! }],
      ['a MAC for another counter', { mac: hand.proof!.mac(method, hand.counters[method] + 1, hashOf(body.body ?? Buffer.alloc(0))) }],
    ] as const) {
      t.match(words(await ask(rig.port, hand.bytes(method, { ...body, ...change }))), /^403 the MAC is wrong/, `${method} with ${what}`)
    }
  }
  t.match(words(await ask(rig.port, hand.bytes('POST', { body: BEAT, id: other.hand.id }))), /^403 the MAC is wrong/, 'on the channel of another')
  await works(t, agent)
  await works(t, other)
})

t.test('the MAC is checked before the body is read', async (t) => {
  const { rig, hand } = await loggedIn(t)
  const bytes = hand.bytes('POST', { body: Buffer.alloc(100_000), mac: Buffer.alloc(16) })
  t.match(words(await ask(rig.port, bytes.subarray(0, bytes.length - 100_000))), /^403 the MAC is wrong/)
})

t.test('a body that is not the one its hash was made of is dropped whole', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const bytes = hand.bytes('POST', { body: BEAT })
  bytes[bytes.length - 1]! ^= 1
  t.match(words(await ask(rig.port, bytes)), /^403 the hash is not of this body/)
  t.match(words(await ask(rig.port, hand.bytes('GET', { hash: hashOf(Buffer.of(1)) }))), /^403 a poll has no body/)
  await works(t, agent)
})

t.test('a body over the limit is refused by its length, or as soon as it is over it', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const body = Buffer.alloc(BODY_MAX_BYTES + 1)
  t.match(words(await ask(rig.port, hand.bytes('POST', { body }).subarray(0, -1))), /^413 a body is at most 1048576 bytes/)
  const head = hand.bytes('POST', { body }).subarray(0, -body.length).toString('latin1').replace(/Content-Length: \d+/, 'Transfer-Encoding: chunked')
  t.match(words(await ask(rig.port, Buffer.concat([Buffer.from(`${head}100001\r\n`), body]))), /^413 a body is at most 1048576 bytes/)
  await works(t, agent)
})

t.test('what names no channel, or asks for something else, is told so', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const field = /Postern-Channel: .*(?=\r)/.exec(hand.bytes('GET').toString('latin1'))![0]
  for (const [bytes, says] of [
    [hand.bytes('GET', { id: randomBytes(16).toString('hex') }), /^403 there is no such channel/],
    [hand.bytes('POST', { body: BEAT, id: randomBytes(16).toString('hex') }), /^403 there is no such channel/],
    [request('GET', 'messages'), /^403 the field Postern-Channel is missing or wrong/],
    [request('GET', 'messages', ['Postern-Channel: x']), /^403 the field/],
    [request('GET', 'messages', [field, field]), /^403 the field/],
    [request('GET', 'messages', [`${field}0`]), /^403 the field/],
    [request('GET', 'messages', [field], BEAT), /^403 a poll has no body/],
    [request('PUT', 'messages', [field], BEAT), /^405 not by this method/],
    [request('DELETE', 'messages', [field]), /^405/],
    [request('POST', 'events'), /^405/],
    [request('GET', 'open'), /^405/],
    [request('POST', 'open', [], BEAT), /^413 nothing is said yet/],
    [request('GET', 'nothing'), /^404/],
    [request('GET', 'messages?x', [field]), /^404/],
    [request('GET', '__proto__', [field]), /^404/],
  ] as const) t.match(words(await ask(rig.port, bytes)), says, bytes.toString('latin1').split('\r')[0]!)
  t.match((await ask(rig.port, request('PUT', 'messages', [field]))).head, /^allow: GET, POST\r?$/im)
  await works(t, agent)
})

t.test('a body that is refused on its way is taken to its end, and the next request of its connection answered; one that is too large ends it', async (t) => {
  const { rig, hand } = await loggedIn(t)
  for (const [bytes, stays] of [[BODY_MAX_BYTES, true], [BODY_MAX_BYTES + 1, false]] as const) {
    const post = hand.bytes('POST', { body: Buffer.alloc(bytes), id: randomBytes(16).toString('hex') })
    const socket = net.connect(rig.port, '127.0.0.1')
    let heard = ''
    let over = ''
    socket.on('data', (chunk: Buffer) => (heard += chunk.toString('latin1')))
    socket.on('error', (error: NodeJS.ErrnoException) => (over = error.code!)).on('close', () => (over ||= 'closed'))
    socket.write(post.subarray(0, -bytes / 2))
    await until('it is refused', () => /^HTTP\/1\.1 (403|413)/.test(heard))
    heard = ''
    socket.write(post.subarray(-bytes / 2))
    socket.write(request('GET', 'nothing'))
    await until('the other is answered, or the connection has ended', () => heard.includes('HTTP/1.1 404') || over !== '')
    t.equal(heard.includes('HTTP/1.1 404'), stays, over)
    socket.destroy()
  }
})

t.test('no answer may be kept or packed on the way', async (t) => {
  const { rig, hand } = await loggedIn(t)
  await ask(rig.port, hand.bytes('POST', { body: BEAT }))
  for (const answer of [await ask(rig.port, hand.bytes('GET')), await ask(rig.port, hand.bytes('GET'))]) {
    t.match(answer.head, /^cache-control: no-store, no-transform\r?$/im)
  }
  const stream = begin(rig.port, request('GET', 'events'))
  await until('it begins', () => stream.heard())
  stream.socket.destroy()
  t.match((await stream.answer).head, /content-type: text\/event-stream[^]*x-accel-buffering: no/im)
})

t.test('a poll whose connection ends ends the channel at once', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const poll = begin(rig.port, hand.bytes('GET'))
  hand.counters.GET++
  await until('it waits', async () => /under way/.test(words(await ask(rig.port, hand.bytes('GET')))))
  poll.socket.destroy()
  await until('the channel is gone', () => !isIn(agent))
})

t.test('a POST whose connection ends amid its body ends the channel, and none of it is taken', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  const post = begin(rig.port, hand.bytes('POST', { body: Buffer.concat([BEAT, BEAT]) }).subarray(0, -3))
  await until('it is under way', async () => /under way/.test(words(await ask(rig.port, hand.bytes('POST', { body: BEAT })))))
  post.socket.destroy()
  await until('the channel is gone', () => !isIn(agent))
})

t.test('a body that holds anything but whole messages ends the channel', async (t) => {
  for (const body of [Buffer.alloc(0), Buffer.alloc(3), BEAT.subarray(0, -1), Buffer.concat([BEAT, Buffer.of(0)]), Buffer.from('ffffff00', 'hex')]) {
    const agent = await loggedIn(t)
    t.equal(words(await ask(agent.rig.port, agent.hand.bytes('POST', { body }))), '204')
    t.notOk(isIn(agent), body.toString('hex'))
  }
})

t.test('a poll that left before the agent had its key brings the welcome, and none does after that', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('early', ['demo'])
  const hand = await ByHand.open(rig.port)
  const login = rig.login('early', { carrier: hand })
  await hand.say()
  await hand.hear()
  await hand.say()
  t.ok([...rig.registry.members()].length === 1, 'the gateway knows the session, and has the key')
  await hand.hear()
  const { outcome } = await login
  if (!(outcome instanceof Session)) throw new Error(outcome.detail)
  t.teardown(() => outcome.end(errors.cancelled, 'the test is over'))
  t.match(words(await ask(rig.port, hand.bytes('GET', { mac: NO_MAC }))), /^403 the MAC is wrong/)
  await works(t, { rig, hand, session: outcome })
})

t.test('an answer that never arrives is lost to its channel alone: the exchange goes on over the next one', async (t) => {
  const rig = await Rig.start(t)
  rig.allow('agent-1', ['demo'])
  const hand = await ByHand.open(rig.port)
  let agent: Agent | undefined
  const login = rig.login('agent-1', { carrier: hand, began: (session, carrier) => (agent = new Agent(rig, session, carrier, answers(200, 'answered'), ['demo'])) })
  for (let i = 0; i < 3; i++) {
    await hand.say()
    if (i < 2) await hand.hear()
  }
  await login
  t.teardown(() => agent!.session.end(errors.cancelled, 'the test is over'))
  await until('it serves', () => rig.presence.includes('demo up'))
  const asked = rig.ask('demo')
  const lost = await ask(rig.port, hand.bytes('GET'))
  t.ok(lost.body.length > 100, 'the request was in it')
  t.match(words(await ask(rig.port, hand.bytes('GET'))), /^409 GET \d was had/, 'it is not given twice')
  await agent!.resume()
  t.match(await asked.done(), /head 200/)
  t.equal(asked.body.toString(), 'answered')
})

t.test('a channel that is closed says why, though the agent went on talking', async (t) => {
  const agent = await loggedIn(t)
  const { rig, hand } = agent
  rig.registry.end(errors.gateway_leaving, 'bye')
  t.equal(words(await ask(rig.port, hand.bytes('POST', { body: BEAT }))), '204', 'what crossed the close is no fault')
  hand.counters.POST++
  const last = await ask(rig.port, hand.bytes('GET'))
  hand.counters.GET++
  t.same([last.status, last.body], [200, bodyOf(encodeClose(errors.gateway_leaving, errors.gateway_leaving.says))])
  t.match(words(await ask(rig.port, hand.bytes('GET'))), /^403 the channel is closed/)
  t.equal(words(await ask(rig.port, hand.bytes('POST', { body: BEAT }))), '204')
})

t.test('strangers are bounded in number, and in what each may say', async (t) => {
  const rig = await Rig.start(t)
  const hands = await Promise.all(Array.from({ length: 256 }, () => ByHand.open(rig.port)))
  for (const resource of [request('POST', 'open'), request('GET', 'events')]) {
    const refused = await ask(rig.port, resource)
    t.match(words(refused), /^503 gateway_busy/)
    t.match(refused.head, /^retry-after: 2\r?$/im)
  }
  const chatter = bodyOf(encodeBeat(false, 1), Buffer.alloc(10_000))
  const overDo = async (hand: ByHand): Promise<void> => {
    await ask(rig.port, hand.bytes('POST', { body: chatter }))
    t.match(words(await ask(rig.port, hand.bytes('POST', { body: BEAT, counter: 1 }))), /^403 there is no such channel/)
  }
  await overDo(hands[0]!)
  const next = await ByHand.open(rig.port)
  await Promise.all([next, ...hands.slice(1)].map(overDo))
})

t.test('the event stream of an sse channel is all of its way down', async (t) => {
  const rig = await Rig.start(t)
  const stream = begin(rig.port, request('GET', 'events'))
  let text = ''
  stream.socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  const id = await until('it is open', () => /^data: ([0-9a-f]{32})$/m.exec(text)?.[1])
  const hand = new ByHand(rig.port, id)
  t.match(words(await ask(rig.port, hand.bytes('GET'))), /^405 the messages of this channel come by its event stream/)
  t.equal(words(await ask(rig.port, hand.bytes('POST', { body: BEAT }))), '204')
  await until('the beat is answered', () => text.includes(`data: ${bodyOf(encodeBeat(true, 1)).toString('base64')}\n\n`))
  stream.socket.destroy()
  await until('the channel is gone', async () => (await ask(rig.port, hand.bytes('POST', { body: BEAT, counter: 1 }))).status === 403)
})

t.test('an event stream that is cut ends properly once what is on its way has left; it is broken if that is too much, takes too long, or had its time', async (t) => {
  const { clock } = processEnvironment()
  const MESSAGE_BYTES = 60_000
  const cases = { 'whoever reads has all of it': [1, true], 'nobody reads': [1, false], 'too much': [4, true], 'closed before': [1, false] } as const
  for (const [what, [beyond, reads]] of Object.entries(cases)) {
    let carrier: SseCarrier | undefined
    let down: http.ServerResponse | undefined
    const server = http.createServer((_request, response) => {
      down = response
      const faster = { now: () => clock.now(), soon: clock.soon.bind(clock), later: (ms: number, then: () => void) => clock.later(reads ? ms : ms / 20, then) }
      carrier = new SseCarrier({ id: '0'.repeat(32), arrival: { peer: 'x', worker: 0 }, clock: faster, onGone: () => undefined }, response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const asked = http.get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false })
    t.teardown(() => asked.destroy())
    const [answer] = (await once(asked, 'response')) as [http.IncomingMessage]
    answer.on('error', () => undefined)
    let sent = 0
    // The kernel keeps some megabytes of a connection.
    await until('more is on its way than leaves', () => {
      if (down!.writableLength >= beyond * MESSAGE_BYTES) return true
      carrier!.send(Buffer.alloc(MESSAGE_BYTES))
      sent++
      return false
    })
    if (what === 'closed before') carrier!.close()
    else carrier!.abort()
    t.equal(down!.destroyed, what === 'too much', what)
    let bytes = 0
    if (reads) answer.on('data', (chunk: Buffer) => (bytes += chunk.length))
    const isWhole = reads && beyond === 1
    await until(`${what}: it is over`, () => (isWhole ? answer.complete : down!.destroyed))
    t.equal(answer.complete, isWhole, what)
    if (isWhole) t.ok(bytes > sent * MESSAGE_BYTES)
  }
})

// The HTTP/2 ingress at its socket, against a scripted gateway library.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type OutgoingHttpHeaders } from 'node:http2'
import { connect as dial } from 'node:net'
import t, { type Test } from 'tap'
import { errors } from '../../protocol/errors.ts'
import { until } from '../harness/until.ts'
import { type Carried, ENVELOPE, startIngress } from './ingress-rig.ts'

class Asked {
  body = ''
  head: Record<string, unknown> = {}
  trailers: Record<string, unknown> = {}
  over = false
  readonly stream: ClientHttp2Stream

  constructor(session: ClientHttp2Session, fields: OutgoingHttpHeaders, endStream: boolean) {
    this.stream = session.request({ ':path': '/', ':authority': 'demo.localhost', postern: ENVELOPE, ...fields }, { endStream })
    this.stream.on('response', (head) => (this.head = head))
    this.stream.on('trailers', (trailers) => (this.trailers = trailers))
    this.stream.on('data', (chunk: Buffer) => (this.body += chunk.toString('latin1')))
    this.stream.on('close', () => (this.over = true))
    this.stream.on('error', () => {})
  }
}

async function start(t: Test, script: (carried: Carried) => void) {
  const rig = await startIngress(t, script, 'h2')
  const session = connect('http://demo.localhost', { createConnection: () => dial(rig.path) })
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  return { rig, session }
}

t.test('repeated fields and trailers pass both ways, Date is the origin\'s', async (t) => {
  const { rig, session } = await start(t, () => {})
  const asked = new Asked(session, { ':method': 'POST', a: ['1', '2'] }, false)
  asked.stream.write('body')
  await until('body', () => rig.carried[0]?.body.length === 4)
  const [carried] = rig.carried
  t.equal(carried!.field('a').join(), '1,2')
  carried!.answer.head([':status', '200', 'Set-Cookie', 'x', 'Set-Cookie', 'y', 'Date', 'then'], Buffer.from('hel'), false)
  await until('full duplex', () => asked.body === 'hel')
  asked.stream.end('more')
  await until('complete', () => carried!.complete)
  carried!.answer.data(Buffer.from('lo'))
  carried!.answer.end(['Grpc-Status', '0'])
  await until('over', () => asked.over)
  t.same([asked.body, asked.head['set-cookie'], asked.head['date'], asked.trailers['grpc-status']], ['hello', ['x', 'y'], 'then', '0'])
  t.equal(carried!.taken, 5)
  t.equal(carried!.cancelled, undefined)
})

t.test('a reset cancels, a failure resets, a rule broken is 502 and no envelope 400', async (t) => {
  const { rig, session } = await start(t, () => {})
  const left = new Asked(session, {}, true)
  await until('carried', () => rig.carried.length === 1)
  left.stream.close(constants.NGHTTP2_CANCEL)
  await until('cancelled', () => rig.carried[0]!.cancelled === errors.cancelled)

  const broken = new Asked(session, {}, true)
  await until('carried', () => rig.carried.length === 2)
  rig.carried[1]!.answer.head([':status', '200'], Buffer.from('a'), false)
  await until('head', () => broken.body === 'a')
  rig.carried[1]!.answer.fail(errors.origin_reset, '')
  await until('reset', () => broken.over)
  t.equal(broken.stream.rstCode, constants.NGHTTP2_INTERNAL_ERROR)

  const bad = new Asked(session, {}, true)
  await until('carried', () => rig.carried.length === 3)
  rig.carried[2]!.answer.head([':status', '200', 'a', 'b\r\nc: d'], Buffer.alloc(0), true)
  await until('502', () => bad.over)
  t.equal(bad.head[':status'], 502)

  const none = new Asked(session, { postern: 'x' }, true)
  await until('400', () => none.over)
  t.equal(none.head[':status'], 400)
  t.equal(rig.carried.length, 3)
})

t.test('an answer may come before the upload is read, and the rest is swallowed', async (t) => {
  const { rig, session } = await start(t, (carried) => (carried.room = false))
  const asked = new Asked(session, { ':method': 'POST' }, false)
  asked.stream.end(Buffer.alloc(4_000_000))
  await until('some', () => (rig.carried[0]?.body.length ?? 0) > 0)
  rig.carried[0]!.answer.head([':status', '413'], Buffer.from('no'), true)
  await until('over', () => asked.over)
  t.equal(asked.head[':status'], 413)
  t.equal(asked.body, 'no')
  t.ok(rig.carried[0]!.body.length < 200_000)
})

t.test('103 passes to an nginx that says it knows it; the agent is named', async (t) => {
  const { rig, session } = await start(t, () => {})
  for (const [ended, expected] of [['', []], [';103', [[103, '<a>, <b>']]]] as const) {
    const asked = new Asked(session, { postern: ENVELOPE + ended }, true)
    const hints: unknown[] = []
    asked.stream.on('headers', (head) => hints.push([head[':status'], head['link']]))
    await until('carried', () => rig.carried.at(-1)?.complete === true)
    const carried = rig.carried.pop()!
    for (const status of ['100', '102', '103', '104']) carried.answer.interim([':status', status, 'Link', '<a>', 'Connection', 'close', 'link', '<b>'])
    carried.agent = 'agent-1'
    carried.answer.head([':status', '200', 'Postern-Agent', 'forged'], Buffer.from('hello'), true)
    await until('over', () => asked.over)
    t.same(hints, expected)
    t.same([asked.body, asked.head['postern-agent']], ['hello', 'agent-1'])
  }
})

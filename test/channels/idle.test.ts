// What an idle http channel costs: requests for each heartbeat, and a poll that waits for as long as it may.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Dial } from '../../agent/channel-dial.ts'
import { dialLongPoll } from '../../agent/long-poll.ts'
import { dialSse } from '../../agent/sse.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { errors } from '../../protocol/errors.ts'
import { POLL_WAIT_MS } from '../../protocol/http-channel.ts'
import { Session } from '../../protocol/session.ts'
import { processEnvironment } from '../../sidecar/environment.ts'
import { HttpChannels } from '../../sidecar/http-channels.ts'
import { until } from '../harness/until.ts'
import { Rig, TIMES } from '../sidecar/gateway-rig.ts'
import { ask, ByHand } from './by-hand.ts'

const HEARTBEAT_MS = 200
const BEATS = 10
const ARRIVAL = { peer: 'test', worker: 0 }

const dialed = (dial: Dial, gateway: string): Promise<Carrier> =>
  new Promise((resolve, reject) => dial({ gateway, userAgent: 'test' }, (outcome) => ('reason' in outcome ? reject(new Error(outcome.detail)) : resolve(outcome))))

for (const [kind, dial, polls] of [['sse', dialSse, 0], ['long-poll', dialLongPoll, 1]] as const) {
  t.test(`${kind}: an idle channel costs one POST and ${String(polls)} polls a heartbeat`, async (t) => {
    const rig = await Rig.start(t, { times: { heartbeatMs: HEARTBEAT_MS } })
    rig.allow('agent-1', ['demo'])
    const came: string[] = []
    const { outcome } = await rig.login('agent-1', { carrier: await dialed(dial, rig.url) })
    if (!(outcome instanceof Session)) throw new Error(outcome.detail)
    t.teardown(() => outcome.end(errors.cancelled, 'the test is over'))
    const count = (method: string): number => came.filter((one) => one === method).length
    const begun = performance.now()
    rig.door.http.on('request', (request) => came.push(request.method!))
    await until('so many heartbeats', () => count('POST') === BEATS)
    // The first may have been due at once.
    t.ok(performance.now() - begun > (BEATS - 1) * HEARTBEAT_MS, 'no POST more than heartbeats')
    await until('the last is answered', () => count('GET') >= polls * BEATS)
    // Of the poll that waited when the count began, the next is already counted.
    t.ok(count('GET') <= polls * (BEATS + 1), `${String(count('GET'))} polls`)
    t.ok(outcome.attached)
  })
}

t.test('a poll with nothing to say is answered with 204 after its time, and the next one waits as long', async (t) => {
  let waits: (() => void) | undefined
  let waitedMs = 0
  const environment = processEnvironment(TIMES, 1_000_000)
  const clock = {
    ...environment.clock,
    later: (ms: number, then: () => void) => {
      waitedMs = ms
      waits = then
      return () => (waits = undefined)
    },
  }
  const channels = new HttpChannels({ hasRoomFor: () => true, admit: () => ({ heard: () => false, left: () => undefined }) }, { ...environment, clock })
  const server = createServer((request, response) => void channels.take(request, response, ARRIVAL)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const hand = await ByHand.open(port)
  for (let i = 0; i < 2; i++) {
    const poll = ask(port, hand.bytes('GET'))
    hand.counters.GET++
    const end = await until('it waits', () => waits)
    t.equal(waitedMs, POLL_WAIT_MS)
    end()
    t.equal((await poll).status, 204)
    t.equal(waits, undefined, 'nothing is left of it')
  }
})

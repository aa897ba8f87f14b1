// After a reload of nginx channels leave the old workers; otherwise they stay where they are.
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { until } from '../harness/until.ts'
import { answers, Rig } from './gateway-rig.ts'

/** Channels come through `worker` from now on. */
function through(rig: Rig, worker: string): void {
  rig.door.http.prependListener('upgrade', (request: IncomingMessage) => (request.headers['postern-worker'] = worker))
}

async function start(t: Parameters<typeof Rig.start>[0], worker: string): Promise<Rig> {
  const rig = await Rig.start(t)
  through(rig, worker)
  rig.allow('a', ['demo'])
  await rig.agent('a', answers(200, ''))
  return rig
}

/** One request through `worker` each second for so long. */
async function requests(rig: Rig, workers: readonly number[], seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    for (const worker of workers) await rig.ask('demo', { worker }).done()
    rig.leapMs += 1_000
  }
}

t.test('a channel whose worker has no requests while a newer one has them is asked to move, once', async (t) => {
  const rig = await start(t, '100')
  const agent = rig.agents[0]!
  await requests(rig, [100], 7)
  t.equal(agent.moves, 0)
  await requests(rig, [200], 7)
  await until('it is asked', () => agent.moves === 1)
  await requests(rig, [200], 10)
  t.equal(agent.moves, 1)
})

t.test('workers that are there to stay send no channel to and fro', async (t) => {
  const rig = await start(t, '100')
  await requests(rig, [100, 200], 10)
  const agent = rig.agents[0]!
  t.equal(agent.moves, 0)
  // One that has no requests for a while, with no newer one: it came back to before.
  await rig.agent('a', answers(200, ''))
  await requests(rig, [200], 12)
  t.equal(rig.agents[1]!.moves, 0)
  // A lull, and the other one takes up again what it did before.
  rig.leapMs += 60_000
  await requests(rig, [200], 12)
  t.equal(rig.agents[1]!.moves, 0)
})

t.test('a channel that came through no nginx stays', async (t) => {
  const rig = await start(t, '')
  await requests(rig, [200], 12)
  t.equal(rig.agents[0]!.moves, 0)
})

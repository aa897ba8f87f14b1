// A gateway keeps as much of the history as its configuration says: what is too old or too much goes while it runs, a little at a time.
import t from 'tap'
import { Store } from '../../sidecar/store.ts'
import { startGateway } from '../harness/gateway.ts'
import { until } from '../harness/until.ts'
import { ask } from './control-socket.ts'

const DAY_MS = 86_400_000
const MEBIBYTE = 1_048_576

t.test('the oldest goes until the rest is small and young enough, and the lists answer meanwhile', async (t) => {
  const today = performance.timeOrigin
  const gateway = await startGateway(t, {
    settings: { history_max_bytes: MEBIBYTE, exchanges_kept_hours: 2 },
    prepare: (_runDir, stateDir) => {
      const store = new Store(stateDir)
      store.whole(() => {
        for (let i = 1; i <= 20_000; i++) store.history.add({ at: Math.round(today), kind: 'filled', subject: 'agents/a', who: 'test', detail: { i } })
        const exchange = { service: 's', agent: null, method: 'GET', path: '/', status: 200, error: null, waitMs: 0, headMs: 1, totalMs: 1, sentBytes: 0, receivedBytes: 0 }
        for (let i = 1; i <= 2_000; i++) store.history.addExchange({ ...exchange, uuid: String(i).padStart(32, '0'), at: Math.round(i <= 1_500 ? today - DAY_MS / 8 : today) })
      })
      t.ok(store.history.size('history') > 1.5 * MEBIBYTE)
      store.close()
    },
  })
  const oldest = async (list: string): Promise<number> => {
    for (let last = 0, after = ''; ; ) {
      const { items, next } = (await ask(gateway.runDir, 'GET', `/v1/${list}?limit=1000${after}`)).json as { items: { id: number }[]; next: string | null }
      last = items.at(-1)?.id ?? last
      if (next === null) return last
      after = `&after=${next}`
    }
  }
  t.equal(await until('those of three hours ago are gone', async () => (await oldest('exchanges')) > 1_500 && oldest('exchanges')), 1_501, 'and no other')
  await until('the history is small enough', async () => (await oldest('history')) > 5_000)
  t.equal(await gateway.stop(), 0)
  const store = new Store(gateway.stateDir)
  t.teardown(() => store.close())
  const size = store.history.size('history')
  t.ok(size > 0.9 * MEBIBYTE, `${String(size)} bytes are kept, and not much less than may be`)
})

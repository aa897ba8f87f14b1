// A feed has a bound on how long its reader may take nothing: who does not read loses the place, who reads keeps it.
import { createServer, request } from 'node:http'
import net, { type AddressInfo } from 'node:net'
import t from 'tap'
import { Feed } from '../../sidecar/control-feed.ts'
import { Store } from '../../sidecar/store.ts'

/** More than the kernel and Node hold for a connection, so that it is noticed when nobody reads. */
const ENTRIES = 40_000
const TIMES = { beatMs: 50, stallMs: 5_000 }

t.test('a reader that takes nothing is let go, one that reads has all of it and stays', async (t) => {
  const store = new Store(t.testdir())
  t.teardown(() => store.close())
  store.whole(() => {
    for (let i = 0; i < ENTRIES; i++) store.history.add({ at: i, kind: 'agent_created', subject: `agents/${String(i)}`, who: 'a test', detail: { why: 'x'.repeat(100) } })
  })
  const closed = new Map<string, () => void>()
  const close = (who: string): Promise<void> => new Promise((resolve) => closed.set(who, resolve))
  const [sleeperClosed, readerClosed] = [close('/sleeper'), close('/reader')]
  const server = createServer(({ url }, response) => {
    void new Feed({ listeners: new Set(), store }, response, { from: 0, wanted: undefined, onClose: closed.get(url!)!, times: TIMES })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo

  const sleeper = net.connect(port, '127.0.0.1')
  t.teardown(() => sleeper.destroy())
  sleeper.on('error', () => undefined)
  sleeper.pause()
  sleeper.write('GET /sleeper HTTP/1.1\r\nHost: feed\r\n\r\n')

  let entries = 0
  let rest = ''
  let stays = true
  void readerClosed.then(() => (stays = false))
  const reading = request({ port, host: '127.0.0.1', path: '/reader', agent: false })
  t.teardown(() => reading.destroy())
  const all = new Promise<void>((resolve) => {
    reading.on('response', (answer) => {
      answer.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n')
        rest = lines.pop()!
        entries += lines.filter((line) => line.startsWith('id: ')).length
        if (entries === ENTRIES) resolve()
      })
    })
  })
  reading.on('error', () => undefined)
  reading.end()
  await all
  await sleeperClosed
  t.ok(stays, 'who has read everything, and hears beats alone, stays')
})

// The worker thread that holds the store and the control server: SQLite is synchronous, and the hot path waits for nobody.
import { randomBytes } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { createServerSetup, ready } from '../protocol/opaque.ts'
import { type Change, createControlApp, type Live } from './control-app.ts'
import type { FromWorker, ToWorker, WorkerStart } from './control.ts'
import { listen } from './sockets.ts'
import { Store } from './store.ts'

const port = parentPort!
const { stateDir, publicUrl, version, places } = workerData as WorkerStart

const say = (message: FromWorker): void => port.postMessage(message)

/** A request to the control server takes milliseconds: whoever holds a connection longer than this keeps no gateway from leaving. */
const CLOSE_MS = 2_000

/** Questions to the main thread that wait for their answer. */
const waiting = new Map<number, (answer: Live | undefined) => void>()
let questions = 0

function ask(make: (id: number) => FromWorker): Promise<Live | undefined> {
  const id = questions++
  return new Promise((resolve) => {
    waiting.set(id, resolve)
    say(make(id))
  })
}

async function start(): Promise<void> {
  await ready
  const store = new Store(stateDir)
  const serverSetup = store.setting('opaque_server_setup', createServerSetup)
  const app = createControlApp({
    store,
    serverSetup,
    publicUrl,
    version,
    random: (bytes) => randomBytes(bytes),
    publish: async (change: Change) => void (await ask((id) => ({ kind: 'change', id, change }))),
    live: async () => (await ask((id) => ({ kind: 'live', id })))!,
    onTrouble: (error) => say({ kind: 'trouble', detail: error?.message }),
    onFault: (error) => say({ kind: 'fault', detail: error.stack ?? error.message }),
  })
  port.on('message', (message: ToWorker) => {
    if (message.kind === 'answer') {
      waiting.get(message.id)?.(message.live)
      waiting.delete(message.id)
    } else if (message.kind === 'listen') {
      app.ready().then(() => listen(app.server, 'control', places)).then(
        () => say({ kind: 'listening' }),
        (error: unknown) => say({ kind: 'failed', detail: String(error) }),
      )
    } else {
      setTimeout(() => app.server.closeAllConnections(), CLOSE_MS).unref()
      void app.close().finally(() => {
        store.close()
        say({ kind: 'closed' })
        port.close()
      })
    }
  })
  say({ kind: 'opened', serverSetup, agents: store.agents(), services: store.services() })
}

start().catch((error: unknown) => {
  say({ kind: 'failed', detail: error instanceof Error ? error.message : String(error) })
  port.close()
})

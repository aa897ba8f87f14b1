// The worker thread that holds the store and the control server: SQLite is synchronous, and the hot path waits for nobody.
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { parentPort, workerData } from 'node:worker_threads'
import { createServerSetup, ready } from '../protocol/opaque.ts'
import type { FromWorker, ToWorker, WorkerStart } from './control.ts'
import { type ControlApp, createControlApp } from './control-app.ts'
import { entryOf, serviceEntryOf, stateOf } from './control-desk.ts'
import { farFrom } from './control-live.ts'
import { Problem } from './control-problem.ts'
import { covers } from './control-services.ts'
import { firstToken } from './control-tokens.ts'
import type { Batch } from './journal.ts'
import type { Change } from './known.ts'
import { listen } from './sockets.ts'
import { Store } from './store.ts'
import type { Happening, StoredExchange } from './store-history.ts'

const port = parentPort!
const { stateDir, publicUrl, controlHosts, version, kept, places } = workerData as WorkerStart

const say = (message: FromWorker): void => port.postMessage(message)

/** The time of day; this thread's own main file may read it. */
const now = Date.now

/** A request to the control server takes milliseconds: whoever holds a connection longer than this keeps no gateway from leaving. */
const CLOSE_MS = 2_000
/** Agents whose time is over are looked for this often. */
const EXPIRE_MS = 500
/** What is too old or too much is looked for this often, and a little of it deleted at a time with room between for whoever asks. */
const FORGET_MS = 5_000
const FORGET_PAUSE_MS = 50

const onFault = (error: Error): void => say({ kind: 'fault', detail: error.stack ?? error.message })

/** Questions to the main thread that wait for their answer. */
const waiting = new Map<number, (value: unknown) => void>()
let questions = 0

function ask(make: (id: number) => FromWorker): Promise<unknown> {
  const id = questions++
  return new Promise((resolve) => {
    waiting.set(id, resolve)
    say(make(id))
  })
}

/** Whether there is such an agent, and why it may not come in, is told to the operator alone: to whoever tries it is all the same. */
function detailOf(store: Store, { kind, subject, detail }: Happening): Happening['detail'] {
  if (kind !== 'agent_refused') return detail
  const agent = store.agents.one(subject.slice('agents/'.length))
  return { ...detail, state: agent === undefined ? 'unknown' : stateOf(agent, now()) }
}

/** Writes what happened on the hot path. A full disk was told of by then, and what it does not take is gone. */
function write({ desk }: ControlApp, batch: Batch): void {
  // The batch is on the gateway's clock.
  const wall = now() - batch.now
  const exchanges = batch.exchanges.map((one) => ({ ...one, at: Math.round(wall + one.at) }))
  const stored: StoredExchange[] = []
  try {
    desk.write(() => {
      for (const one of batch.happenings) desk.store.history.add({ ...one, at: Math.round(wall + one.at), detail: detailOf(desk.store, one) })
      if (batch.leftOut > 0) desk.store.history.add({ at: now(), kind: 'left_out', subject: 'history', who: 'gateway', detail: { count: batch.leftOut } })
      for (const one of exchanges) stored.push({ id: desk.store.history.addExchange(one), ...one })
    })
    for (const listener of desk.exchangeListeners) listener(stored)
  } catch (error) {
    if (!(error instanceof Problem)) throw error
  }
}

function forget({ desk }: Pick<ControlApp, 'desk'>): void {
  const later = (ms: number): void => void setTimeout(() => forget({ desk }), ms).unref()
  try {
    later(desk.forget() ? FORGET_PAUSE_MS : FORGET_MS)
  } catch {
    // A full disk: whoever writes next tells of it.
    later(FORGET_MS)
  }
}

function keepOut({ desk }: ControlApp): void {
  let since = now()
  let busy = false
  setInterval(() => {
    if (busy) return
    busy = true
    const from = since
    since = now()
    desk.expire(from).catch(onFault).finally(() => (busy = false))
  }, EXPIRE_MS).unref()
}

async function start(): Promise<void> {
  await ready
  const store = new Store(stateDir)
  const services = store.services.all()
  const published = services.find(({ hosts }) => hosts.some((host) => controlHosts.some((one) => covers(host, one))))
  if (published !== undefined) throw new Error(`control_hosts: service ${published.name} is published on one of them, and a path cannot keep a service from the control server`)
  const serverSetup = store.setting('opaque_server_setup', createServerSetup)
  const control = await createControlApp({
    store,
    serverSetup,
    publicUrl,
    controlHosts,
    version,
    kept,
    now,
    random: (bytes) => randomBytes(bytes),
    publish: async (change: Change) => void (await ask((id) => ({ kind: 'change', id, change }))),
    live: farFrom((question) => ask((id) => ({ kind: 'question', id, question }))),
    onTrouble: (error) => say({ kind: 'trouble', detail: error?.message }),
    onFault,
  })
  const { app, access, desk } = control
  // For nginx: what comes in here shows a token. An inherited socket is answered even where there is no control host.
  const outside = controlHosts.length === 0 && !places.fds.has('admin') ? undefined : createServer((request, response) => app.routing(request, response))
  access.outside = outside
  port.on('message', (message: ToWorker) => {
    if (message.kind === 'answer') {
      waiting.get(message.id)?.(message.value)
      waiting.delete(message.id)
    } else if (message.kind === 'batch') {
      write(control, message.batch)
      say({ kind: 'written' })
    } else if (message.kind === 'listen') {
      const both = async (): Promise<void> => {
        await app.ready()
        await listen(app.server, 'control', places)
        if (outside !== undefined) await listen(outside, 'admin', places)
        keepOut(control)
        forget(control)
      }
      both().then(() => say({ kind: 'listening' }), (error: unknown) => say({ kind: 'failed', detail: String(error) }))
    } else {
      setTimeout(() => app.server.closeAllConnections(), CLOSE_MS).unref()
      outside?.close()
      outside?.closeAllConnections()
      void app.close().finally(() => {
        store.close()
        say({ kind: 'closed' })
        port.close()
      })
    }
  })
  const agents = store.agents.all().flatMap((agent) => entryOf(agent, now()) ?? [])
  say({ kind: 'opened', serverSetup, agents, services: services.map(serviceEntryOf), settings: desk.settings(), firstToken: controlHosts.length === 0 ? undefined : firstToken(desk) })
}

start().catch((error: unknown) => {
  say({ kind: 'failed', detail: error instanceof Error ? error.message : String(error) })
  port.close()
})

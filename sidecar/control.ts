// The main thread's side of the store and the control server: starts their worker, knows the directory, tells it what is live.
import { Worker } from 'node:worker_threads'
import type { Change, Live } from './control-app.ts'
import type { AgentEntry, ServiceEntry } from './directory.ts'
import { Known } from './known.ts'
import type { SocketPlaces } from './sockets.ts'

/** What the worker is started with. */
export interface WorkerStart {
  readonly stateDir: string
  readonly publicUrl: string | undefined
  readonly version: string
  readonly places: SocketPlaces
}

export type ToWorker = { readonly kind: 'listen' } | { readonly kind: 'close' } | { readonly kind: 'answer'; readonly id: number; readonly live?: Live }

export type FromWorker =
  | { readonly kind: 'opened'; readonly serverSetup: string; readonly agents: readonly AgentEntry[]; readonly services: readonly ServiceEntry[] }
  | { readonly kind: 'listening' }
  | { readonly kind: 'change'; readonly id: number; readonly change: Change }
  | { readonly kind: 'live'; readonly id: number }
  | { readonly kind: 'trouble'; readonly detail: string | undefined }
  | { readonly kind: 'fault'; readonly detail: string }
  | { readonly kind: 'closed' }
  | { readonly kind: 'failed'; readonly detail: string }

export interface ControlEvents {
  /** The thread is gone, whatever the reason, and with it the store. */
  onDied(error: Error): void
  /** The store can't be written; `undefined`: it can again. */
  onTrouble(detail: string | undefined): void
  /** The control server made a mistake. */
  onFault(detail: string): void
}

export class Control {
  readonly known: Known
  readonly serverSetup: string
  private readonly worker: Worker
  private readonly events: ControlEvents
  private live: () => Live = () => ({ ready: false, waits_for: ['start'], exchanges: 0, sessions: [] })
  private onListening: ((error: Error | undefined) => void) | undefined
  private readonly exited: Promise<void>

  private constructor(worker: Worker, opened: Extract<FromWorker, { kind: 'opened' }>, events: ControlEvents) {
    this.worker = worker
    this.events = events
    this.known = new Known(opened.agents, opened.services)
    this.serverSetup = opened.serverSetup
    let closing = false
    worker.on('message', (message: FromWorker) => {
      if (message.kind === 'closed') closing = true
      else this.take(message)
    })
    worker.on('error', (error: Error) => events.onDied(error))
    this.exited = new Promise((resolve) => {
      worker.once('exit', () => {
        if (!closing) events.onDied(new Error('the store’s thread ended'))
        resolve()
      })
    })
  }

  /** Opens the store. Rejects when it can't be opened. */
  static open(start: WorkerStart, events: ControlEvents): Promise<Control> {
    // Itself, as source or as compiled: whichever this is.
    const worker = new Worker(new URL(import.meta.url.endsWith('.ts') ? './control-worker.ts' : './control-worker.js', import.meta.url), { workerData: start })
    return new Promise((resolve, reject) => {
      worker.once('error', reject)
      worker.once('message', (message: FromWorker) => {
        worker.off('error', reject)
        if (message.kind === 'opened') resolve(new Control(worker, message, events))
        else reject(new Error(message.kind === 'failed' ? message.detail : `the store's thread said ${message.kind}`))
      })
    })
  }

  /** Lets the control server listen, and answer what `live` says. */
  async listen(live: () => Live): Promise<void> {
    this.live = live
    await new Promise<void>((resolve, reject) => {
      this.onListening = (error) => (error === undefined ? resolve() : reject(error))
      this.say({ kind: 'listen' })
    })
  }

  /** Closes the control server and the store. */
  async close(): Promise<void> {
    this.say({ kind: 'close' })
    await this.exited
  }

  private say(message: ToWorker): void {
    this.worker.postMessage(message)
  }

  private take(message: FromWorker): void {
    switch (message.kind) {
      case 'change':
        this.apply(message.change)
        return this.say({ kind: 'answer', id: message.id })
      case 'live':
        return this.say({ kind: 'answer', id: message.id, live: this.live() })
      case 'listening':
        return this.onListening?.(undefined)
      case 'trouble':
        return this.events.onTrouble(message.detail)
      case 'fault':
        return this.events.onFault(message.detail)
      case 'failed':
        return this.onListening?.(new Error(message.detail))
      case 'opened':
      case 'closed':
        return
    }
  }

  // Whoever listens to the directory, the routes among them, is told before the change is acknowledged.
  private apply(change: Change): void {
    if ('agent' in change) this.known.changeAgent(change.agent, change.entry)
    else this.known.changeService(change.service, change.entry)
  }
}

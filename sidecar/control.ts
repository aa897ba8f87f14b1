// The main thread's side of the store and the control server: starts their worker, knows the directory, tells it what is live and what happened.
import { Worker } from 'node:worker_threads'
import type { Clock } from '../protocol/clock.ts'
import { answer, type LiveGateway, NO_GATEWAY, type Question } from './control-live.ts'
import type { AgentSettings } from './control-schemas.ts'
import type { AgentEntry, ServiceEntry } from './directory.ts'
import { type Batch, Journal } from './journal.ts'
import { type Change, Known } from './known.ts'
import type { SocketPlaces } from './sockets.ts'
import type { Kept } from './store-history.ts'

/** What the worker is started with. */
export interface WorkerStart {
  readonly stateDir: string
  readonly publicUrl: string | undefined
  readonly controlHosts: readonly string[]
  readonly version: string
  readonly kept: Kept
  readonly places: SocketPlaces
}

export type ToWorker =
  | { readonly kind: 'listen' }
  | { readonly kind: 'close' }
  | { readonly kind: 'answer'; readonly id: number; readonly value?: unknown }
  | { readonly kind: 'batch'; readonly batch: Batch }

interface Opened {
  readonly kind: 'opened'
  readonly serverSetup: string
  readonly agents: readonly AgentEntry[]
  readonly services: readonly ServiceEntry[]
  readonly settings: AgentSettings
  /** The secret of the first token, if there was none: to be told this once. */
  readonly firstToken: string | undefined
}

export type FromWorker =
  | Opened
  | { readonly kind: 'listening' }
  | { readonly kind: 'change'; readonly id: number; readonly change: Change }
  | { readonly kind: 'question'; readonly id: number; readonly question: Question }
  | { readonly kind: 'written' }
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
  readonly journal: Journal
  readonly serverSetup: string
  readonly firstToken: string | undefined
  private readonly worker: Worker
  private readonly events: ControlEvents
  private live: LiveGateway = NO_GATEWAY
  private onListening: ((error: Error | undefined) => void) | undefined
  private readonly exited: Promise<void>

  private constructor(worker: Worker, opened: Opened, clock: Clock, events: ControlEvents) {
    this.worker = worker
    this.events = events
    this.known = new Known(opened.agents, opened.services, opened.settings)
    this.journal = new Journal(clock, (batch) => this.say({ kind: 'batch', batch }))
    this.serverSetup = opened.serverSetup
    this.firstToken = opened.firstToken
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
  static open(start: WorkerStart, clock: Clock, events: ControlEvents): Promise<Control> {
    // Itself, as source or as compiled: whichever this is.
    const worker = new Worker(new URL(import.meta.url.endsWith('.ts') ? './control-worker.ts' : './control-worker.js', import.meta.url), { workerData: start })
    return new Promise((resolve, reject) => {
      worker.once('error', reject)
      worker.once('message', (message: FromWorker) => {
        worker.off('error', reject)
        if (message.kind === 'opened') resolve(new Control(worker, message, clock, events))
        else reject(new Error(message.kind === 'failed' ? message.detail : `the store's thread said ${message.kind}`))
      })
    })
  }

  /** Lets the control server listen, and ask `live`. */
  async listen(live: LiveGateway): Promise<void> {
    this.live = live
    await new Promise<void>((resolve, reject) => {
      this.onListening = (error) => (error === undefined ? resolve() : reject(error))
      this.say({ kind: 'listen' })
    })
  }

  /** Closes the control server and the store, in which all that happened is then. */
  async close(): Promise<void> {
    this.journal.flush()
    this.say({ kind: 'close' })
    await this.exited
  }

  private say(message: ToWorker): void {
    this.worker.postMessage(message)
  }

  private take(message: FromWorker): void {
    switch (message.kind) {
      case 'change':
        // Whoever listens to the directory, the routes among them, is told before the change is acknowledged.
        this.known.apply(message.change)
        return this.say({ kind: 'answer', id: message.id })
      case 'question':
        return void answer(this.live, message.question).then((value) => this.say({ kind: 'answer', id: message.id, value }))
      case 'written':
        return this.journal.written()
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
}

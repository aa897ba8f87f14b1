// The gateway library: carries exchanges to the agents that serve them, and knows how many are under way.
import type { Clock } from '../protocol/clock.ts'
import type { Budget } from '../protocol/credit.ts'
import type { Environment } from '../protocol/environment.ts'
import type { Carry } from './carry.ts'
import { Deadlines } from './deadlines.ts'
import type { Directory } from './directory.ts'
import { CarriedExchange, type ExchangeDesk } from './exchange.ts'
import type { Journal } from './journal.ts'
import { Rates } from './rates.ts'
import type { Registry } from './registry.ts'
import type { Serving, ServingListener } from './serving.ts'
import { Sticky } from './sticky.ts'
import type { Workers } from './workers.ts'

/** Requests that wait for an agent to come back. Each may hold 64 KiB, which is paid from the budget; in 5 s no more should come in than this. */
const WAITING_MAX_COUNT = 1_024

export interface GatewayOptions {
  readonly environment: Environment
  readonly directory: Directory
  readonly registry: Registry
  /** From a request's last byte to the answer's head. */
  readonly headTimeoutMs: number
  /** How long a request waits for an agent that is resuming, or that is still to come after a start. */
  readonly agentWaitMs: number
  /** Hears of each exchange that is over. */
  readonly journal?: Pick<Journal, 'over'>
  /** How long leave() waits for exchanges under way. */
  readonly drainMs: number
}

/** design.md's figures, for whoever has no reason to choose others. */
export const GATEWAY_TIMES = { headTimeoutMs: 60_000, agentWaitMs: 5_000, drainMs: 30_000 } as const

export class Gateway implements ExchangeDesk, ServingListener {
  readonly clock: Clock
  readonly budget: Budget
  readonly directory: Directory
  readonly serving: Serving
  readonly rates: Rates
  readonly sticky: Sticky
  readonly journal: Pick<Journal, 'over'> | undefined
  readonly heads: Deadlines
  readonly waiting: Deadlines
  readonly waitingMaxCount = WAITING_MAX_COUNT
  /** Exchanges under way. */
  underWay = 0
  private readonly workers: Workers
  private readonly began: number
  private readonly graceMs: number
  private readonly drainMs: number
  private onIdle: (() => void) | undefined

  constructor(options: GatewayOptions) {
    const { environment } = options
    this.clock = environment.clock
    this.budget = environment.budget
    this.directory = options.directory
    this.serving = options.registry.serving
    this.rates = new Rates(this.clock)
    this.sticky = new Sticky(options.registry.serverSetup)
    this.journal = options.journal
    this.workers = options.registry.workers
    this.heads = new Deadlines(this.clock, options.headTimeoutMs)
    this.waiting = new Deadlines(this.clock, options.agentWaitMs)
    this.began = this.clock.now()
    this.graceMs = environment.times.graceMs
    this.drainMs = options.drainMs
    this.serving.listen(this)
  }

  readonly carry: Carry = (request, body, complete, answer) => {
    this.underWay++
    this.workers.requestCame(request.worker)
    const exchange = new CarriedExchange(this, request, body, complete, answer)
    exchange.start()
    return exchange
  }

  get young(): boolean {
    return this.clock.now() - this.began < this.graceMs
  }

  gone(): void {
    this.underWay--
    if (this.underWay === 0) this.onIdle?.()
  }

  servingChanged(service: string): void {
    for (const waiter of this.waiting.all()) {
      const exchange = waiter as CarriedExchange
      // One that was reconsidered may have changed who serves what, and so have ended others.
      if (exchange.waitsIn === this.waiting && exchange.request.service === service) exchange.reconsider()
    }
  }

  /** Resolves when no exchange is under way any more, or after `drainMs` with those that still are. What comes meanwhile is carried too. */
  leave(): Promise<void> {
    if (this.underWay === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const cancel = this.clock.later(this.drainMs, resolve)
      this.onIdle = () => {
        cancel()
        resolve()
      }
    })
  }
}

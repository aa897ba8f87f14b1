// The agent's end of a monitor stream: measures its process once, tells the gateway, and that is all (SPEC §10.3).
import type { Clock } from '../protocol/clock.ts'
import { errors } from '../protocol/errors.ts'
import { encodeFigures, type FiguresSaid } from '../protocol/monitor.ts'
import { NO_FIELDS, type Stream, type StreamEvents } from '../protocol/stream.ts'

/** The timer that shows how late the event loop is. */
const TIMER_MS = 20

/** What is not the process's own. */
export type Counted = Pick<FiguresSaid, 'version' | 'exchanges' | 'served' | 'failed' | 'sent_bytes' | 'received_bytes'>

export class Monitor implements StreamEvents {
  /** The stream is one of the session's still. */
  open = true
  private readonly stream: Stream
  private readonly cancel: () => void

  /** Takes the stream that the gateway opened. */
  constructor(stream: Stream, clock: Clock, counted: () => Counted) {
    this.stream = stream
    const due = clock.now() + TIMER_MS
    this.cancel = clock.later(TIMER_MS, () => {
      this.open = false
      // Whoever has not ended it by then has nothing to say here.
      stream.stop(errors.cancelled)
      stream.sendHead(NO_FIELDS, encodeFigures({ ...counted(), ...ofProcess(), loop_delay_ms: Math.max(0, clock.now() - due) }), true)
    })
  }

  onHead(): void {}
  // The gateway has nothing to say here.
  onData(): void {}
  onEnd(): void {}
  onDrain(): void {}
  onStop(): void {
    this.close()
    this.stream.reset(errors.cancelled, true)
  }
  onReset(): void {
    this.close()
  }

  private close(): void {
    this.open = false
    this.cancel()
  }
}

function ofProcess(): Pick<FiguresSaid, 'node' | 'uptime_s' | 'rss_bytes' | 'heap_bytes' | 'cpu_s'> {
  const { rss, heapUsed } = process.memoryUsage()
  const { user, system } = process.cpuUsage()
  return { node: process.version, uptime_s: process.uptime(), rss_bytes: rss, heap_bytes: heapUsed, cpu_s: (user + system) / 1e6 }
}

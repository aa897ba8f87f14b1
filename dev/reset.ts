// Resets a TCP connection at once, as a peer does that lost its mind or its power.
import type net from 'node:net'

/**
 * A unix socket knows no reset, and one whose end was said has none left. Not resetAndDestroy(): that says an end of its own first, and where the peer's
 * reset comes amid that, the handle never closes and the process turns in circles when it should end (Node 26.10, Environment::CleanupHandles).
 */
export function reset(end: net.Socket): void {
  if (end.remoteFamily !== undefined && !end.writableEnded) Object.assign(end, { resetAndClosing: true })
  end.destroy()
}

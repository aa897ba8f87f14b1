// Origins as the tests of the agent reach them, closed with the test.
import type net from 'node:net'
import { Origin, type OriginOptions } from '../../agent/origin.ts'
import { parseTarget } from '../../agent/target.ts'
import type { Ends } from '../harness/origin.ts'

export function originAt(t: Ends, target: number | string, options: Partial<OriginOptions> = {}): Origin {
  const origin = new Origin({ target: parseTarget(typeof target === 'number' ? `127.0.0.1:${String(target)}` : target, process.platform), ...options })
  t.teardown(() => origin.close())
  return origin
}

/** Answers the first bytes of each connection with `reply`, as it is; `end`: and half-closes. */
export const replying = (reply: string, end = false) => (socket: net.Socket): void => {
  socket.on('end', () => socket.destroy())
  socket.once('data', () => (end ? socket.end(reply, 'latin1') : socket.write(reply, 'latin1')))
}

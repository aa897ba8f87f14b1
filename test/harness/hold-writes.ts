// A real socket whose writes leave one by one, when the test says so: what a slow link does to it, without the link.
import type { Duplex } from 'node:stream'

export interface WriteGate {
  /** Lets so many writes leave, those to come included. */
  pass(count: number): void
  /** Lets all leave from now on. */
  open(): void
}

export function holdWrites(socket: Duplex): WriteGate {
  const write = socket._write.bind(socket)
  const held: (() => void)[] = []
  let free = 0
  const go = (): void => {
    while (free > 0 && held.length > 0) {
      free--
      held.shift()!()
    }
  }
  // Without _writev the stream hands over its chunks one at a time.
  Object.assign(socket, {
    _writev: null,
    _write: (chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void) => {
      held.push(() => write(chunk, encoding, done))
      go()
    },
  })
  return {
    pass: (count) => {
      free += count
      go()
    },
    open: () => {
      free = Infinity
      go()
    },
  }
}

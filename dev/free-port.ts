// Finds a port for a program that can't be told to take any and say which.
import { createServer } from 'node:net'

/** The system may give a port again as soon as it is closed; two programs of one process must not be sent to the same. */
const given = new Set<number>()

/** A port that nobody listens on now, another one each time. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = await anyPort()
    if (given.has(port)) continue
    given.add(port)
    return port
  }
}

function anyPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

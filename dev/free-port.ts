// Finds a port for a program that can't be told to take any and say which.
import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * Below what Linux gives of itself to whoever asks for any port or connects (net.ipv4.ip_local_port_range, 32768 and up by
 * default): nobody comes to have it between our look and the start of the program that it is for.
 */
const LOWEST = 10_000
const BEYOND_HIGHEST = 32_768

/** Two programs of one process must not be sent to the same. */
const given = new Set<number>()

/** A port that nobody listens on now, another one each time. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(LOWEST, BEYOND_HIGHEST)
    if (given.has(port)) continue
    given.add(port)
    if (await isFree(port)) return port
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

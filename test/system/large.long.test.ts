// A file of 1 GB through all parts, down and up, by its hash, and an echo of 100 MB while it is being sent.
import { createHash } from 'node:crypto'
import t from 'tap'
import { body, hashOf } from './bodies.ts'
import { visit } from './visitor.ts'
import { startWorld } from './world.ts'

const LARGE_BYTES = 1_000_000_000
const ECHO_BYTES = 100_000_000

t.setTimeout(600_000)

for (const policy of ['always', 'never']) {
  t.test(`1 GB is whole in both directions, and 100 MB come back while they are sent (policy ${policy})`, async (t) => {
    t.setTimeout(600_000)
    const world = await startWorld(t, {
      settings: { policy },
      agentArguments: ['--policy', policy],
      handler: (request, response) => {
        if (request.method === 'GET') {
          request.resume()
          response.setHeader('Content-Length', LARGE_BYTES)
          return void body(7, LARGE_BYTES).pipe(response)
        }
        if (request.url === '/echo') return void request.pipe(response)
        const hash = createHash('sha256')
        request.on('data', (chunk: Buffer) => hash.update(chunk))
        return void request.on('end', () => response.end(hash.digest('hex')))
      },
    })
    const down = await visit({ port: world.port })
    t.equal(down.bytes, LARGE_BYTES)
    t.equal(down.sha256, hashOf(7, LARGE_BYTES))
    const up = await visit({ port: world.port, method: 'PUT', headers: ['Content-Length', String(LARGE_BYTES)], body: body(9, LARGE_BYTES) })
    t.equal(up.body.toString(), hashOf(9, LARGE_BYTES))
    const echo = await visit({ port: world.port, method: 'POST', path: '/echo', headers: ['Transfer-Encoding', 'chunked'], body: body(11, ECHO_BYTES) })
    t.equal(echo.sha256, hashOf(11, ECHO_BYTES))
  })
}

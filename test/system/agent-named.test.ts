// nginx's log can name the agent that answered ($upstream_http_postern_agent); visitors do not see it.
import t from 'tap'
import { visit } from './visitor.ts'
import { startWorld } from './world.ts'

t.test('the agent of an answer is known to nginx by both doors, and of a failure too', async (t) => {
  const world = await startWorld(t, {
    handler: (request, response) => {
      request.resume()
      if (request.url === '/breaks') request.socket.destroy()
      else response.setHeader('Postern-Agent', 'forged').end('ok')
    },
    // What stands in a log line, where a test can read it.
    include: 'add_header Seen "$upstream_http_postern_agent" always;',
  })
  for (const headers of [[], ['Transfer-Encoding', 'chunked']]) {
    for (const [path, status] of [['/', 200], ['/breaks', 502]] as const) {
      const answer = await visit({ port: world.port, path, method: 'POST', headers, body: 'x' })
      t.equal(answer.status, status)
      t.equal(answer.headers['seen'], 'agent-1', `${path} ${headers.join()}`)
      t.notOk('postern-agent' in answer.headers)
    }
  }
})

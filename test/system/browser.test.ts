// A real browser through all parts: its page, its WebSocket, its EventSource and a fetch that it streams.
import { spawn } from 'node:child_process'
import type http from 'node:http'
import type { Duplex } from 'node:stream'
import t from 'tap'
import { WebSocketServer } from 'ws'
import { HOST } from './visitor.ts'
import { startWorld } from './world.ts'

/** Reports what it saw as soon as it has seen all of it. */
const PAGE = `<!doctype html><title>test</title><script>
const seen = { events: [], messages: [] }
const done = () => seen.events.length === 3 && seen.messages.length === 2 && seen.bytes === 300000 && fetch('/result', { method: 'POST', body: JSON.stringify(seen) })
const source = new EventSource('/events')
source.onmessage = (event) => { seen.events.push(event.data); if (seen.events.length === 3) source.close(); done() }
const ws = new WebSocket('ws://' + location.host + '/ws')
ws.onopen = () => ws.send('hello')
ws.onmessage = (event) => { seen.messages.push(event.data); if (seen.messages.length === 1) ws.send('again'); done() }
fetch('/bytes').then(async (response) => {
  let bytes = 0
  for await (const chunk of response.body) bytes += chunk.length
  seen.bytes = bytes
  done()
})
</script>`

t.test('a browser’s page, WebSocket, EventSource and streamed fetch work', async (t) => {
  let report: (text: string) => void
  const result = new Promise<string>((resolve) => (report = resolve))
  const world = await startWorld(t, {
    handler: (request, response) => {
      if (request.url === '/') return void response.setHeader('Content-Type', 'text/html').end(PAGE)
      if (request.url === '/events') {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' })
        return void response.write('data: one\n\ndata: two\n\ndata: three\n\n')
      }
      if (request.url === '/bytes') return void response.end(Buffer.alloc(300_000))
      if (request.url !== '/result') return void response.writeHead(404).end()
      let text = ''
      request.on('data', (chunk: Buffer) => (text += chunk.toString()))
      return void request.on('end', () => {
        response.end()
        report(text)
      })
    },
  })
  const sockets = new WebSocketServer({ noServer: true })
  world.origin.server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) =>
    sockets.handleUpgrade(request, socket, head, (ws) => ws.on('message', (data: Buffer) => ws.send(`echo ${data.toString()}`))),
  )
  const profile = t.testdir()
  const browser = spawn(
    'chromium',
    [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', `--user-data-dir=${profile}`],
      `http://${HOST}:${String(world.port)}/`,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  )
  let log = ''
  browser.stderr.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4_000)))
  const gone = new Promise<void>((resolve) => browser.once('exit', () => resolve()))
  t.teardown(async () => {
    // The whole group: a browser is many processes.
    process.kill(-browser.pid!, 'SIGKILL')
    await gone
  })
  const seen = JSON.parse(await Promise.race([result, gone.then(() => Promise.reject(new Error(`the browser left: ${log}`)))])) as unknown
  t.same(seen, { events: ['one', 'two', 'three'], messages: ['echo hello', 'echo again'], bytes: 300_000 })
})

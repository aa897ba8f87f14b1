// A small local service to publish: a page that shows what reached it, an echo, an event stream, a WebSocket.
import http from 'node:http'
import { type WebSocket, WebSocketServer } from 'ws'

const EVENT_EVERY_MS = 1_000

const PAGE = (head: string): string => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Postern demo</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}pre{background:#f4f4f2;padding:1rem;overflow:auto}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#262626}}</style>
<h1>This page came through Postern</h1>
<p>The service behind it listens on a port of its own that nobody outside can reach. This is the request as it arrived there:</p>
<pre>${head}</pre>
<h2>Event stream</h2><pre id="events">…</pre>
<h2>WebSocket</h2><p><button id="send">Send the time</button></p><pre id="ws">…</pre>
<script>
const show = (id, text) => { document.getElementById(id).textContent = text }
new EventSource('/events').onmessage = (event) => show('events', event.data)
const ws = new WebSocket(location.href.replace(/^http/, 'ws').replace(/\\/[^/]*$/, '/ws'))
ws.onopen = () => show('ws', 'open')
ws.onmessage = (event) => show('ws', 'came back: ' + event.data)
document.getElementById('send').onclick = () => ws.send(new Date().toISOString())
</script></html>
`

function escape(text: string): string {
  return text.replace(/[&<>]/g, (character) => `&#${String(character.charCodeAt(0))};`)
}

function headOf(request: http.IncomingMessage): string {
  const lines = [`${request.method ?? ''} ${request.url ?? ''} HTTP/${request.httpVersion}`]
  for (let index = 0; index < request.rawHeaders.length; index += 2) lines.push(`${request.rawHeaders[index] ?? ''}: ${request.rawHeaders[index + 1] ?? ''}`)
  return lines.join('\n')
}

function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  const path = (request.url ?? '/').split('?')[0]
  if (path === '/echo') {
    response.writeHead(200, { 'Content-Type': request.headers['content-type'] ?? 'application/octet-stream' })
    request.pipe(response)
  } else if (path === '/events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
    let number = 0
    const send = (): boolean => response.write(`id: ${String(++number)}\ndata: event ${String(number)} at ${new Date().toISOString()}\n\n`)
    send()
    const timer = setInterval(send, EVENT_EVERY_MS)
    response.once('close', () => clearInterval(timer))
  } else if (path === '/') {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' })
    response.end(PAGE(escape(headOf(request))))
  } else {
    response.writeHead(404, { 'Content-Type': 'text/plain; charset=utf-8' })
    response.end(`the sample service has /, /echo, /events and /ws; you asked for\n${headOf(request)}\n`)
  }
}

/** Starts it on a free port of 127.0.0.1. */
export async function startSampleService(): Promise<{ port: number; stop: () => void }> {
  const server = http.createServer(answer)
  const sockets = new WebSocketServer({ server, path: '/ws' })
  sockets.on('connection', (socket: WebSocket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the sample service has no port')
  return {
    port: address.port,
    stop: () => {
      for (const socket of sockets.clients) socket.terminate()
      server.close()
      server.closeAllConnections()
    },
  }
}

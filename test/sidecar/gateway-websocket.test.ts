// The gateway's websocket carrier: full is full until it says that it is not.
import http, { type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import t from 'tap'
import { dialWebsocket } from '../../agent/websocket.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { Kind } from '../../protocol/messages.ts'
import { WebSocketAcceptor } from '../../sidecar/websocket.ts'
import { holdWrites } from '../harness/hold-writes.ts'
import { until } from '../harness/until.ts'

t.test('a small message sent while a full socket empties takes nothing back: it still says when there is room', async (t) => {
  const acceptor = new WebSocketAcceptor()
  const server = http.createServer()
  let carrier: Carrier | undefined
  let socket: Duplex | undefined
  server.on('upgrade', (request: IncomingMessage, duplex: Duplex, head: Buffer) => {
    socket = duplex
    acceptor.accept(request, duplex, head, { peer: 'x', worker: 0 }, (accepted) => (carrier = accepted))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    socket?.destroy()
    server.close()
  })
  const received: Buffer[] = []
  dialWebsocket({ gateway: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`, userAgent: 'test' }, (outcome) => {
    if ('reason' in outcome) throw new Error(outcome.detail)
    outcome.onMessage = (message) => received.push(message)
  })
  await until('the channel is there', () => carrier)
  const gate = holdWrites(socket!)
  let drained = 0
  carrier!.onDrain = () => drained++
  let sent = 1
  while (carrier!.send(Buffer.alloc(60_000, Kind.record))) sent++
  gate.pass(2)
  await until('the first is there', () => received.length === 1)
  t.notOk(carrier!.send(Buffer.of(Kind.beat)), 'a small one does not make it writable')
  t.equal(drained, 0)
  gate.open()
  await until('it drains', () => drained > 0)
  await until('all is there', () => received.length === sent + 1)
})

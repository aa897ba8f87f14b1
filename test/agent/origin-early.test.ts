// An origin that closes without having read the upload: what it said before is heard, and what it cut short never looks whole.
import type net from 'node:net'
import t from 'tap'
import { errors } from '../../protocol/errors.ts'
import { reset } from '../../dev/reset.ts'
import { startRawOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { originAt } from './origins.ts'
import { request, type ScriptedStream, send } from './scripted.ts'

const CHUNK = Buffer.alloc(16_384, 'x')

/** The origin replies and closes; in the same turn, so before anything of it can be read, more of the body is written. */
async function upload(t: Parameters<typeof startRawOrigin>[0], reply: string, close: (socket: net.Socket) => void): Promise<ScriptedStream> {
  let begun = false
  const server = await startRawOrigin(t, (socket) => {
    socket.once('readable', () => {
      begun = true
      socket.write(reply, 'latin1')
      close(socket)
      for (let i = 0; i < 4; i++) stream.events!.onData(CHUNK)
    })
  })
  const stream = send(originAt(t, server.port), request('POST', '/', ['Content-Length', '20000005']), { open: true, body: 'first' })
  await until('the exchange is over', () => begun && stream.over)
  return stream
}

/** With what came unread the kernel resets the connection. */
const orderly = (socket: net.Socket): void => void socket.end(() => socket.destroy())

const WHOLE = 'HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 5\r\n\r\nearly'
const CHUNKED = 'HTTP/1.1 413 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n0\r\n\r\n'
const UNTIL_CLOSE = 'HTTP/1.1 413 No\r\n\r\nearly'

for (const [what, reply, close] of [
  ['whole by its length, then the end', WHOLE, orderly], ['whole by its length, then a reset', WHOLE, reset],
  ['whole by its chunks, then the end', CHUNKED, orderly], ['whole by its chunks, then a reset', CHUNKED, reset],
  ['whole by its end', UNTIL_CLOSE, orderly],
] as const) {
  t.test(`an answer to an upload that nobody reads is heard: ${what}`, async (t) => {
    const stream = await upload(t, reply, close)
    t.same([stream.status, stream.text, stream.failure, stream.ended], ['413', 'early', undefined, true])
    t.equal(stream.stopped, errors.cancelled, 'whoever sends the upload is told that nobody reads it')
  })
}

for (const [what, reply, close] of [
  ['by its length, the end', WHOLE.slice(0, -1), orderly], ['by its length, a reset', WHOLE.slice(0, -1), reset],
  ['by its chunks, the end', CHUNKED.slice(0, -5), orderly], ['without a length, a reset', UNTIL_CLOSE, reset], ['nothing said, a reset', '', reset], ['nothing said, the end', '', orderly],
] as const) {
  t.test(`a short answer to an upload that nobody reads is a failure: ${what}`, async (t) => {
    const stream = await upload(t, reply, close)
    t.notOk(stream.ended)
    t.equal(stream.failure?.code.fault, 'origin')
  })
}

// What an origin said before it closed on an unread upload is heard: a failed write does not keep us from reading what is already here.
import type { Socket } from 'node:net'

/** With these a write learns that the origin has closed; all that it sent before may still be unread. */
const CLOSED = new Set(['EPIPE', 'ECONNRESET'])

type Done = (error?: Error | null) => void

/**
 * Node destroys a socket whose write failed, and what the kernel still holds of the answer with it. Here such a failure waits
 * until reading has come to its end, which is near: nothing comes any more from an origin that has closed.
 */
export function hearLastWords(socket: Socket): void {
  let ended = false
  let broken: NodeJS.ErrnoException | undefined
  const later = (done: Done): Done => (error) => {
    if (error === undefined || error === null || ended || !CLOSED.has((error as NodeJS.ErrnoException).code ?? '')) return done(error)
    broken = error
    // For whoever still waits to write, after everybody has heard that the origin says no more.
    socket.once('end', () => done(error))
  }
  const { _write: write, _writev: writev, push } = socket
  socket._write = (chunk, encoding, done: Done) => write.call(socket, chunk, encoding, later(done))
  if (writev !== undefined) socket._writev = (chunks, done: Done) => writev.call(socket, chunks, later(done))
  socket.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (chunk !== null) return push.call(socket, chunk, encoding)
    ended = true
    // The write took the reset from the kernel, which now calls the end of what came a proper one. An orderly end before the reset makes EPIPE of it.
    if (broken?.code !== 'ECONNRESET') return push.call(socket, null)
    socket.destroy(broken)
    return false
  }
}

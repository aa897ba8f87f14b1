// `postern-gateway pipe`: carries standard input to the gateway's socket for agents and standard output from it, byte for byte, until both have ended.
import net from 'node:net'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { giveBack } from '../protocol/give-back.ts'
import { UnreachableError } from './control-client.ts'

/** Resolves when the gateway has ended the connection and all it said was written. Rejects with an {@link UnreachableError} when there is no way to it. */
export function pipe(runDir: string, input: Readable, output: Writable): Promise<void> {
  const path = join(runDir, 'agents.sock')
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path, allowHalfOpen: true })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EACCES' ? 'this user may not connect to the gateway' : 'no gateway runs here'
      reject(error.syscall === 'connect' ? new UnreachableError(`${path}: ${why} (${error.message})`) : error)
    })
    socket.once('connect', () => {
      input.once('error', (error) => socket.destroy(error))
      output.once('error', (error) => socket.destroy(error))
      pour(input, socket)
      input.once('end', () => socket.end())
      pour(socket, output)
      socket.once('end', () => output.write('', () => resolve()))
    })
  })
}

/** As pipe() would, but what was written is given back at once. */
function pour(from: Readable, to: Writable): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.writable) return
    const hasRoom = to.write(chunk, (error) => {
      if (error === null || error === undefined) giveBack(chunk)
    })
    if (!hasRoom) from.pause()
  })
  to.on('drain', () => from.resume())
}

// The pipe channel: messages behind their lengths over the standard input and output of a command, as `ssh edge postern-gateway pipe`, or over a unix socket.
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import net from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { ByteCarrier, type ByteSocket } from '../protocol/byte-carrier.ts'
import { type Dial, type DialFailure, SOCKET_QUEUE_MAX_BYTES } from './channel-dial.ts'

type Command = ChildProcessByStdio<Writable, Readable, Readable>

const UNIX = /^unix:(?=\/)/
/** Of what a command says on its standard error the end is kept, for whoever wants to know why it ended. */
const LAST_WORDS_MAX_BYTES = 1_024
/** A command whose input has ended passes the end on and ends itself; one that does not in this time is told to. */
const END_TIMEOUT_MS = 5_000
/** From SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 2_000

/** Over what `options.pipe` names; the gateway's URL and the way there are no matter of this one. */
export const dialPipe: Dial = (options, done) => {
  const to = options.pipe ?? ''
  return UNIX.test(to) ? dialSocket(to.replace(UNIX, ''), done) : dialCommand(to, done)
}

const unreachable = (detail: string): DialFailure => ({ reason: 'unreachable', detail })

function dialSocket(path: string, done: Parameters<Dial>[1]): () => void {
  const socket = net.connect({ path })
  const failed = (error: Error): void => done(unreachable(`${path}: ${error.message}`))
  socket.once('error', failed)
  socket.once('connect', () => {
    socket.off('error', failed)
    done(new ByteCarrier({ kind: 'pipe', peer: path, worker: 0, queueMaxBytes: SOCKET_QUEUE_MAX_BYTES, givesChunks: true }, socket))
  })
  return () => {
    socket.off('error', failed)
    socket.on('error', ignore)
    socket.destroy()
  }
}

// A command is there when it runs; whether it leads anywhere only messages can show.
function dialCommand(command: string, done: Parameters<Dial>[1]): () => void {
  let over = false
  const failed = (error: unknown): void => {
    if (!over) done(unreachable(`the command of the pipe does not run: ${error instanceof Error ? error.message : String(error)}`))
    over = true
  }
  let child: Command
  try {
    // A group of its own: it ends with all that it starts, and not by the Ctrl-C that lets its agent leave in order.
    child = spawn(command, { shell: true, stdio: ['pipe', 'pipe', 'pipe'], detached: process.platform !== 'win32', windowsHide: true })
  } catch (error) {
    // No command at all, or one that no system takes.
    const later = setImmediate(() => failed(error))
    return () => clearImmediate(later)
  }
  child.once('error', failed)
  // Where a process has no room for one more it has no streams either: the error is all that comes.
  if (child.pid === undefined) return () => (over = true)
  const running = new CommandSocket(child)
  child.once('spawn', () => {
    if (!over) done(new ByteCarrier({ kind: 'pipe', peer: command.trim().split(/\s/)[0]!, worker: 0, queueMaxBytes: SOCKET_QUEUE_MAX_BYTES, givesChunks: true }, running))
    over = true
  })
  return () => {
    over = true
    running.destroy()
  }
}

/** A running command as a socket of bytes. It ends with everything that it has started. */
class CommandSocket implements ByteSocket {
  private readonly child: Command
  private lastWords = Buffer.alloc(0)
  private timer: NodeJS.Timeout | undefined
  private ended = false
  private readonly onError: ((error: Error) => void)[] = []
  private readonly onClose: (() => void)[] = []

  constructor(child: Command) {
    this.child = child
    // What broke is told by the command's end.
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on('error', ignore)
    child.stderr.on('data', (chunk: Buffer) => {
      const all = Buffer.concat([this.lastWords, chunk])
      this.lastWords = all.subarray(Math.max(0, all.length - LAST_WORDS_MAX_BYTES))
    })
    child.stdout.once('end', () => this.finish())
    // What it started and left behind has no use any more.
    child.once('exit', this.kill)
    child.once('close', (code, signal) => this.closed(code, signal))
    process.once('exit', this.kill)
  }

  get writableLength(): number {
    return this.child.stdin.writableLength
  }

  cork(): void {
    this.child.stdin.cork()
  }

  uncork(): void {
    this.child.stdin.uncork()
  }

  write(bytes: Buffer): boolean {
    return this.child.stdin.write(bytes)
  }

  end(then: () => void): void {
    this.child.stdin.end(then)
  }

  destroy(): void {
    if (this.child.stdin.writableEnded) this.finish()
    else this.terminate()
  }

  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'drain' | 'end' | 'close', listener: () => void): unknown
  on(event: 'data' | 'error' | 'drain' | 'end' | 'close', listener: (what: never) => void): unknown {
    if (event === 'data') return this.child.stdout.on(event, listener as (chunk: Buffer) => void)
    if (event === 'drain') return this.child.stdin.on(event, listener as () => void)
    // The end of its output is told with why: when it has exited.
    if (event === 'error') this.onError.push(listener as (error: Error) => void)
    if (event === 'close') this.onClose.push(listener as () => void)
    return undefined
  }

  /** It is about to end: one direction has. */
  private finish(): void {
    if (this.ended || this.timer !== undefined) return
    this.child.stdin.end()
    this.timer = setTimeout(() => this.terminate(), END_TIMEOUT_MS)
  }

  private terminate(): void {
    if (this.ended) return
    this.child.stdin.destroy()
    this.signal('SIGTERM')
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.kill(), KILL_AFTER_MS)
  }

  private closed(code: number | null, signal: NodeJS.Signals | null): void {
    this.ended = true
    clearTimeout(this.timer)
    process.off('exit', this.kill)
    const words = this.lastWords.toString('utf8').replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, ' ').trim()
    const how = signal ?? `exit code ${String(code)}`
    for (const listener of this.onError) listener(new Error(`the command of the pipe ended (${how})${words === '' ? '' : `: ${words}`}`))
    for (const listener of this.onClose) listener()
  }

  private readonly kill = (): void => this.signal('SIGKILL')

  private signal(signal: NodeJS.Signals): void {
    const { pid } = this.child
    if (pid === undefined) return
    try {
      if (process.platform === 'win32') this.child.kill(signal)
      else process.kill(-pid, signal)
    } catch {
      // Nobody is left in its group.
    }
  }
}

function ignore(): void {}

// The loads: wrk for small answers, bare sockets for one large body each way and for the time to the first byte.
import { connect, type Socket } from 'node:net'
import { run } from '../dev/processes.ts'
import { reset } from '../dev/reset.ts'

export interface Target {
  readonly port: number
  readonly host: string
}

export interface SmallAnswers {
  perSecond: number
  requests: number
  p50Ms: number
  p99Ms: number
}

const UNIT_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1_000, m: 60_000 }

function milliseconds(text: string, percentile: string): number {
  const found = new RegExp(`${percentile}%\\s+([\\d.]+)(us|ms|s|m)`).exec(text)
  return found === null ? Number.NaN : Number(found[1]) * (UNIT_MS[found[2] ?? ''] ?? Number.NaN)
}

/** `connections` at once, kept alive, for `seconds`. Any answer but 2xx or 3xx, any broken connection is an error of the run. */
export async function smallAnswers(target: Target, seconds: number, connections: number): Promise<SmallAnswers> {
  const threads = Math.min(2, connections)
  const told = await run('wrk', ['--latency', '-t', String(threads), '-c', String(connections), '-d', `${String(seconds)}s`, '--timeout', '10s', '-H', `Host: ${target.host}`,
    `http://127.0.0.1:${String(target.port)}/small`])
  const errors = /Socket errors:.*|Non-2xx.*/.exec(told)
  if (errors !== null) throw new Error(`wrk on port ${String(target.port)}: ${errors[0]}`)
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(told)?.[1]),
    requests: Number(/(\d+) requests in/.exec(told)?.[1]),
    p50Ms: milliseconds(told, '50'),
    p99Ms: milliseconds(told, '99'),
  }
}

/** One buffer for all reading: the client must cost as little as it can. */
const READ_BYTES = 256 * 1024
const HEAD_MAX_BYTES = 16 * 1024
const CHUNK = Buffer.alloc(64 * 1024, 'postern ')
/** A transfer that makes no progress for so long hangs. */
const STALL_MS = 30_000

/** Sends `head` and tells `read` of everything that comes until it says true. */
function converse(target: Target, head: string, read: (chunk: Buffer) => boolean, then?: (socket: Socket) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = false
    const socket = connect({
      port: target.port,
      host: '127.0.0.1',
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafe(READ_BYTES),
        callback: (bytes, buffer) => {
          try {
            if (!done && read((buffer as Buffer).subarray(0, bytes))) {
              done = true
              resolve()
              socket.destroy()
            }
          } catch (error) {
            socket.destroy(error as Error)
          }
          return true
        },
      },
    })
    socket.setTimeout(STALL_MS, () => socket.destroy(new Error(`port ${String(target.port)}: nothing moved for ${String(STALL_MS)} ms`)))
    socket.once('error', reject)
    socket.once('close', () => reject(new Error(`port ${String(target.port)}: the connection ended early`)))
    socket.once('connect', () => {
      socket.write(head)
      then?.(socket)
    })
  })
}

/** A reader of one answer: gives the body bytes of each chunk to `take`, true when the answer is whole. */
function answerReader(expected: number, take: (bytes: number) => void): (chunk: Buffer) => boolean {
  let head = Buffer.alloc(0)
  let left = -1
  return (chunk) => {
    let body = chunk.length
    if (left < 0) {
      head = Buffer.concat([head, chunk])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) {
        if (head.length > HEAD_MAX_BYTES) throw new Error('the answer has no end of its head')
        return false
      }
      const text = head.toString('latin1', 0, end)
      const status = Number(text.slice(9, 12))
      if (status !== expected) throw new Error(`status ${String(status)} instead of ${String(expected)}:\n${head.toString('latin1')}`)
      left = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? 0)
      body = head.length - end - 4
    }
    left -= body
    take(body)
    return left <= 0
  }
}

/** Seconds for `GET /file`. */
export async function download(target: Target, bytes: number): Promise<number> {
  const began = performance.now()
  let received = 0
  await converse(target, `GET /file HTTP/1.1\r\nHost: ${target.host}\r\n\r\n`, answerReader(200, (more) => (received += more)))
  if (received !== bytes) throw new Error(`${String(received)} bytes came instead of ${String(bytes)}`)
  return (performance.now() - began) / 1_000
}

let uploads = 0

/** Seconds for a PUT of `bytes` until its answer. */
export async function upload(target: Target, bytes: number): Promise<number> {
  const path = `/sink/${String(process.pid)}-${String(++uploads)}`
  const began = performance.now()
  await converse(target, `PUT ${path} HTTP/1.1\r\nHost: ${target.host}\r\nContent-Length: ${String(bytes)}\r\n\r\n`, answerReader(201, () => undefined), (socket) => {
    let left = bytes
    const send = (): void => {
      let more = true
      while (left > 0 && more) {
        const piece = left >= CHUNK.length ? CHUNK : CHUNK.subarray(0, left)
        left -= piece.length
        more = socket.write(piece)
      }
    }
    socket.on('drain', send)
    send()
  })
  const seconds = (performance.now() - began) / 1_000
  await converse(target, `DELETE ${path} HTTP/1.1\r\nHost: ${target.host}\r\nConnection: close\r\n\r\n`, answerReader(204, () => undefined))
  return seconds
}

/** Milliseconds from connect() to the first byte of a small answer, one after another on new connections. */
export async function firstBytes(target: Target, times: number): Promise<number[]> {
  const all: number[] = []
  for (let time = 0; time < times; time++) {
    const began = performance.now()
    let first = 0
    await converse(target, `GET /small HTTP/1.1\r\nHost: ${target.host}\r\nConnection: close\r\n\r\n`, () => {
      first = performance.now()
      return true
    })
    all.push(first - began)
  }
  return all
}

/** A download of /file that is read no faster than it should be. */
export interface Drip {
  /** Its head has come. */
  readonly begun: Promise<void>
  soFar(): { bytes: number; elapsedMs: number }
  cut(): void
}

const DRIP_EVERY_MS = 50

export function startDownload(target: Target, bytesPerSecond: number): Drip {
  const began = performance.now()
  let bytes = 0
  const socket = connect({ port: target.port, host: '127.0.0.1' })
  socket.write(`GET /file HTTP/1.1\r\nHost: ${target.host}\r\n\r\n`)
  const begun = new Promise<void>((resolve, reject) => {
    socket.once('data', (chunk: Buffer) => {
      const line = chunk.toString('latin1', 0, 12)
      if (line === 'HTTP/1.1 200') resolve()
      else reject(new Error(`the download was answered ${line}`))
    })
    socket.once('error', reject)
  })
  // Before the cut nothing may end it: who waits for bytes would wait for ever.
  socket.on('error', () => undefined)
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > allowed()) socket.pause()
  })
  const allowed = (): number => ((performance.now() - began) / 1_000) * bytesPerSecond
  const timer = setInterval(() => {
    if (bytes <= allowed()) socket.resume()
  }, DRIP_EVERY_MS)
  return {
    begun,
    soFar: () => ({ bytes, elapsedMs: performance.now() - began }),
    cut: () => {
      clearInterval(timer)
      reset(socket)
    },
  }
}

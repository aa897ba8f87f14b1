// An agent's end of a long-poll channel whose requests a test makes one by one, right or wrong, each on a socket of its own.
import net from 'node:net'
import type { Carrier } from '../../protocol/channel.ts'
import type { ChannelProof } from '../../protocol/channel-proof.ts'
import { encodeField, hashOf, NO_BODY, NO_MAC, readBody, WaitingMessages } from '../../protocol/http-channel.ts'
import { until } from '../harness/until.ts'

export interface RawAnswer {
  readonly status: number
  readonly head: string
  readonly body: Buffer
}

export interface Begun {
  readonly socket: net.Socket
  /** Is there any byte of an answer yet? */
  heard(): boolean
  readonly answer: Promise<RawAnswer>
}

/** Sends these bytes as they are; the answer is what came when it is whole, or when the connection ended. */
export function begin(port: number, bytes: Buffer | string): Begun {
  const socket = net.connect(port, '127.0.0.1')
  let came = Buffer.alloc(0)
  const answer = new Promise<RawAnswer>((resolve, reject) => {
    const look = (ended: boolean): void => {
      const end = came.indexOf('\r\n\r\n')
      if (end < 0) return ended ? reject(new Error('no answer')) : undefined
      const head = came.toString('latin1', 0, end)
      const body = came.subarray(end + 4)
      const length = /^content-length: (\d+)/im.exec(head)?.[1] ?? (/^HTTP\/1.1 204/.test(head) ? '0' : undefined)
      if (!ended && (length === undefined || body.length < Number(length))) return
      socket.destroy()
      resolve({ status: Number(head.slice(9, 12)), head, body })
    }
    socket.on('data', (chunk: Buffer) => {
      came = Buffer.concat([came, chunk])
      look(false)
    })
    socket.on('error', (error) => (came.length === 0 ? reject(error) : look(true)))
    socket.on('close', () => look(true))
  })
  // A test that breaks a connection does not ask what it was answered.
  answer.catch(() => undefined)
  socket.write(bytes)
  return { socket, heard: () => came.length > 0, answer }
}

export const ask = (port: number, bytes: Buffer | string): Promise<RawAnswer> => begin(port, bytes).answer

/** A request as bytes. */
export function request(method: string, resource: string, fields: readonly string[] = [], body: Buffer = NO_BODY): Buffer {
  const lines = [`${method} /_postern/channel/${resource} HTTP/1.1`, 'Host: x', ...fields, ...(body.length > 0 || method === 'POST' ? [`Content-Length: ${String(body.length)}`] : [])]
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body])
}

/** What is other than it should be. */
export interface Change {
  readonly counter?: number
  readonly body?: Buffer
  readonly hash?: Buffer
  readonly mac?: Buffer
  readonly proof?: ChannelProof | undefined
  readonly id?: string
}

export class ByHand implements Carrier {
  readonly kind = 'long-poll'
  readonly peer = 'by hand'
  readonly worker = 0
  readonly quiet = true
  onMessage: (message: Buffer) => void = () => undefined
  onDrain: () => void = () => undefined
  onClosed: (reason: string) => void = () => undefined
  readonly id: string
  proof: ChannelProof | undefined
  /** What the next request of each method is to bear. */
  readonly counters = { GET: 0, POST: 0 }
  readonly waiting = new WaitingMessages()
  private readonly port: number

  constructor(port: number, id: string) {
    this.port = port
    this.id = id
  }

  static async open(port: number): Promise<ByHand> {
    const { status, body } = await ask(port, request('POST', 'open'))
    if (status !== 200) throw new Error(`${String(status)} ${body.toString()}`)
    return new ByHand(port, body.toString())
  }

  bind(proof: ChannelProof): void {
    this.proof = proof
  }
  send(message: Buffer): boolean {
    this.waiting.add(message)
    return true
  }
  close(): void {
    this.onClosed('closed')
  }
  abort(): void {
    this.onClosed('aborted')
  }

  /** A request as bytes: the next one, but for what is changed. It does not count. */
  bytes(method: 'GET' | 'POST', change: Change = {}): Buffer {
    const body = change.body ?? NO_BODY
    const counter = change.counter ?? this.counters[method]
    const bodyHash = change.hash ?? hashOf(body)
    const proof = 'proof' in change ? change.proof : this.proof
    const mac = change.mac ?? proof?.mac(method, counter, bodyHash) ?? NO_MAC
    return request(method, 'messages', [`Postern-Channel: ${encodeField({ id: change.id ?? this.id, counter, bodyHash, mac })}`], body)
  }

  /** Posts what waits. */
  async say(): Promise<void> {
    await until('something is to be said', () => this.waiting.count > 0)
    const { status, body } = await ask(this.port, this.bytes('POST', { body: this.waiting.take() }))
    if (status !== 204) throw new Error(`${String(status)} ${body.toString()}`)
    this.counters.POST++
  }

  /** Polls, and hands over what comes. */
  async hear(): Promise<void> {
    const bytes = this.bytes('GET')
    this.counters.GET++
    const { status, body } = await ask(this.port, bytes)
    if (status !== 200) throw new Error(`${String(status)} ${body.toString()}`)
    readBody(body, (message) => {
      this.onMessage(message)
      return true
    })
  }
}

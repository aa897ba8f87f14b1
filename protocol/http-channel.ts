// What both ends of an http channel agree on: its paths, its bounds, the field that every request bears, and bodies of messages (SPEC §14).
import { createHash } from 'node:crypto'
import { MAC_BYTES } from './messages.ts'
import { LENGTH_BYTES, MessageReader } from './message-reader.ts'

/** Below the path of channels. */
export const Resource = { events: '/events', open: '/open', messages: '/messages' } as const
export type Resource = (typeof Resource)[keyof typeof Resource]

/** Content types of what goes up and down. */
export const MESSAGES_TYPE = 'application/octet-stream'
export const EVENTS_TYPE = 'text/event-stream'

/** nginx takes so much without being told to (client_max_body_size), and so do most proxies. A full one leaves a 10 Mbit/s link in 0.8 s. */
export const BODY_MAX_BYTES = 1_048_576
/** How long a poll waits for something to say: below the 30 s after which the least patient proxies cut. */
export const POLL_WAIT_MS = 25_000

export const CHANNEL_FIELD = 'postern-channel'
export const CARRIER_ID_BYTES = 16
const HASH_BYTES = 32

export interface ChannelField {
  /** Hexadecimal, as it stands in the field. */
  readonly id: string
  readonly counter: number
  readonly bodyHash: Buffer
  /** Empty before the channel is a session's. */
  readonly mac: Buffer
}

const FIELD = new RegExp(`^([0-9a-f]{${String(2 * CARRIER_ID_BYTES)}});(0|[1-9][0-9]{0,15});([0-9a-f]{${String(2 * HASH_BYTES)}});([0-9a-f]{${String(2 * MAC_BYTES)}}|)$`)

export function encodeField({ id, counter, bodyHash, mac }: ChannelField): string {
  return `${id};${String(counter)};${bodyHash.toString('hex')};${mac.toString('hex')}`
}

/** Undefined for whatever {@link encodeField} would not write. */
export function decodeField(text: unknown): ChannelField | undefined {
  const parts = typeof text === 'string' ? FIELD.exec(text) : null
  const counter = Number(parts?.[2])
  if (parts === null || !Number.isSafeInteger(counter)) return undefined
  return { id: parts[1]!, counter, bodyHash: Buffer.from(parts[3]!, 'hex'), mac: Buffer.from(parts[4]!, 'hex') }
}

/** Is it a carrier's id? */
export function isCarrierId(text: string): boolean {
  return text.length === 2 * CARRIER_ID_BYTES && /^[0-9a-f]+$/.test(text)
}

export function hashOf(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest()
}

export const NO_BODY = Buffer.alloc(0)
export const NO_BODY_HASH = hashOf(NO_BODY)
export const NO_MAC = Buffer.alloc(0)

/** Messages that wait to leave in the next body. */
export class WaitingMessages {
  private waiting: Buffer[] = []
  /** With their lengths. */
  bytes = 0

  get count(): number {
    return this.waiting.length
  }

  /** Not copied. */
  add(message: Buffer): void {
    this.waiting.push(message)
    this.bytes += LENGTH_BYTES + message.length
  }

  /** The body of as many as fit into `maxBytes`, the first always. */
  take(maxBytes: number = BODY_MAX_BYTES): Buffer {
    let count = 0
    let bytes = 0
    for (const message of this.waiting) {
      if (count > 0 && bytes + LENGTH_BYTES + message.length > maxBytes) break
      bytes += LENGTH_BYTES + message.length
      count++
    }
    const body = Buffer.allocUnsafe(bytes)
    let at = 0
    for (let i = 0; i < count; i++) {
      const message = this.waiting[i]!
      at = body.writeUIntBE(message.length, at, LENGTH_BYTES)
      at += message.copy(body, at)
    }
    this.waiting = count === this.waiting.length ? [] : this.waiting.slice(count)
    this.bytes -= bytes
    return body
  }

  drop(): void {
    this.waiting = []
    this.bytes = 0
  }
}

/** Hands each message of a whole body to `deliver` for as long as that says true. Returns what is wrong with the body, if anything. */
export function readBody(body: Buffer, deliver: (message: Buffer) => boolean): string | undefined {
  if (body.length === 0) return 'a body without a message'
  const reader = new MessageReader()
  reader.push(body)
  for (;;) {
    const message = reader.next()
    if (message === undefined) return reader.amid ? 'a body that ends within a message' : undefined
    if (typeof message === 'number') return `a message of ${String(message)} bytes`
    if (!deliver(message)) return undefined
  }
}

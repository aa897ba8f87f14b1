// HTTP/2 frames by hand, for what no client library sends (RFC 9113 §4.1, §6), and a connection that sends them.
import { connect, type Socket } from 'node:net'
import { ENVELOPE } from './ingress-rig.ts'

export const DATA = 0
export const HEADERS = 1
export const PRIORITY = 2
export const RST_STREAM = 3
export const SETTINGS = 4
export const PING = 6
export const GOAWAY = 7
export const WINDOW_UPDATE = 8
export const CONTINUATION = 9
export const END_STREAM = 1
export const END_HEADERS = 4

export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A literal field that is put in no table and spelled out (RFC 7541 §6.2.2); each string shorter than 127 bytes. */
export function field(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)])
}

/** The fields of a whole request as nginx would send it. */
export const REQUEST = Buffer.concat([field(':method', 'POST'), field(':scheme', 'http'), field(':path', '/'), field(':authority', 'demo.localhost'), field('postern', ENVELOPE)])

export class RawH2 {
  readonly socket: Socket
  closed = false
  goaway = false
  /** RST_STREAM frames that came. */
  resets = 0
  /** Streams that the server ended in order. */
  ends = 0
  private rest = Buffer.alloc(0)

  /** To a unix socket's path, or to a port. */
  constructor(where: string | number) {
    this.socket = typeof where === 'number' ? connect(where, '127.0.0.1') : connect(where)
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => (this.closed = true))
    this.socket.on('data', (chunk: Buffer) => this.read(chunk))
    this.socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0)]))
  }

  private read(chunk: Buffer): void {
    let bytes = Buffer.concat([this.rest, chunk])
    while (bytes.length >= 9) {
      const end = 9 + bytes.readUIntBE(0, 3)
      if (bytes.length < end) break
      if (bytes[3] === RST_STREAM) this.resets++
      if ((bytes[3] === DATA || bytes[3] === HEADERS) && (bytes[4]! & END_STREAM) !== 0) this.ends++
      if (bytes[3] === GOAWAY) this.goaway = true
      bytes = bytes.subarray(end)
    }
    this.rest = bytes
  }
}

// Reads messages out of bytes that come in pieces of any size: each stands after its length as u24 (SPEC §2).
import { MESSAGE_MAX_BYTES } from './limits.ts'

export const LENGTH_BYTES = 3

export class MessageReader {
  private chunk: Buffer = NOTHING
  private at = 0
  /** Of a message: what came of its length, or the message itself as far as it came. */
  private length = 0
  private lengthBytes = 0
  private message: Buffer | undefined
  private messageBytes = 0

  /** More bytes came. All messages of those before must have been taken. */
  push(chunk: Buffer): void {
    this.chunk = chunk
    this.at = 0
  }

  /** The next message; undefined if more bytes are needed for one, a number if its length is none that a message has. One that lies whole in a chunk is a view of it. */
  next(): Buffer | number | undefined {
    while (this.at < this.chunk.length) {
      if (this.message !== undefined) {
        if (this.fill(this.message)) return this.whole(this.message)
      } else if (this.lengthBytes < LENGTH_BYTES) {
        this.length = this.length * 256 + this.chunk[this.at++]!
        if (++this.lengthBytes === LENGTH_BYTES && (this.length === 0 || this.length > MESSAGE_MAX_BYTES)) return this.length
      } else if (this.chunk.length - this.at >= this.length) {
        this.at += this.length
        return this.whole(this.chunk.subarray(this.at - this.length, this.at))
      } else this.message = Buffer.allocUnsafe(this.length)
    }
    this.chunk = NOTHING
    return undefined
  }

  /** Did the bytes end within a message? */
  get amid(): boolean {
    return this.lengthBytes > 0
  }

  private fill(message: Buffer): boolean {
    const part = Math.min(message.length - this.messageBytes, this.chunk.length - this.at)
    this.chunk.copy(message, this.messageBytes, this.at, this.at + part)
    this.messageBytes += part
    this.at += part
    return this.messageBytes === message.length
  }

  private whole(message: Buffer): Buffer {
    this.message = undefined
    this.messageBytes = 0
    this.length = 0
    this.lengthBytes = 0
    return message
  }
}

const NOTHING = Buffer.alloc(0)

// Reads messages out of bytes that come in pieces of any size: each stands after its length as u24 (SPEC §2).
import { GIVEN_BACK_MIN_BYTES, giveBack } from './give-back.ts'
import { MESSAGE_MAX_BYTES } from './limits.ts'

export const LENGTH_BYTES = 3
/** Nobody gets a whole message's memory for saying how long it will be; one that comes in large pieces is not copied twice. */
const ROOM_FACTOR = 4

export class MessageReader {
  private chunk: Buffer = NOTHING
  private at = 0
  /** The chunk may go once all of it has been copied. */
  private given = false
  /** Of a message: what came of its length, or the message itself as far as it came, with room for what comes. */
  private length = 0
  private lengthBytes = 0
  private message: Buffer | undefined
  private messageBytes = 0

  /** More bytes came. All messages of those before must have been taken. `given`: nobody else looks at them any more. */
  push(chunk: Buffer, given = false): void {
    this.chunk = chunk
    this.at = 0
    this.given = given
  }

  /** The next message; undefined if more bytes are needed for one, a number if its length is none that a message has. One that lies whole in a chunk is a view of it. */
  next(): Buffer | number | undefined {
    while (this.at < this.chunk.length) {
      if (this.message !== undefined) {
        this.fill(this.message)
        if (this.messageBytes === this.length) return this.whole(this.message)
      } else if (this.lengthBytes < LENGTH_BYTES) {
        this.length = this.length * 256 + this.chunk[this.at++]!
        if (++this.lengthBytes === LENGTH_BYTES && (this.length === 0 || this.length > MESSAGE_MAX_BYTES)) return this.length
      } else if (this.chunk.length - this.at >= this.length) {
        this.at += this.length
        this.given = false
        return this.whole(this.chunk.subarray(this.at - this.length, this.at))
      } else this.message = NOTHING
    }
    if (this.given) giveBack(this.chunk)
    this.chunk = NOTHING
    this.given = false
    return undefined
  }

  /** Did the bytes end within a message? */
  get amid(): boolean {
    return this.lengthBytes > 0
  }

  private fill(message: Buffer): void {
    const part = Math.min(this.length - this.messageBytes, this.chunk.length - this.at)
    const bytes = this.messageBytes + part
    if (bytes > message.length) {
      const room = Math.min(this.length, ROOM_FACTOR * bytes)
      // One that is large has memory of its own, to be given back.
      this.message = room < GIVEN_BACK_MIN_BYTES ? Buffer.allocUnsafe(room) : Buffer.allocUnsafeSlow(room)
      message.copy(this.message, 0, 0, this.messageBytes)
    }
    this.chunk.copy(this.message!, this.messageBytes, this.at, this.at + part)
    this.messageBytes = bytes
    this.at += part
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

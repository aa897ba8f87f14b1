// Proof that a request of an http channel is its agent's: a MAC over which it is and what it holds (SPEC §14).
import { createHmac, timingSafeEqual } from 'node:crypto'
import { Direction, MAC_BYTES } from './messages.ts'

export class ChannelProof {
  private readonly key: Buffer
  private readonly scope: Buffer

  constructor(channelKey: Buffer, sessionId: Buffer, channelNumber: number) {
    this.key = channelKey
    // Of its own: a piece of a shared slab would keep all of that as long as the channel lives.
    this.scope = Buffer.allocUnsafeSlow(1 + sessionId.length + 4)
    this.scope[0] = Direction.toGateway
    this.scope.set(sessionId, 1)
    this.scope.writeUInt32BE(channelNumber, 1 + sessionId.length)
  }

  /** 16 bytes for the request of that method and counter. `bodyHash`: SHA-256 of its body. */
  mac(method: string, counter: number, bodyHash: Buffer): Buffer {
    const number = Buffer.alloc(8)
    number.writeBigUInt64BE(BigInt(counter))
    return createHmac('sha256', this.key).update(this.scope).update(number).update(method, 'latin1').update(bodyHash).digest().subarray(0, MAC_BYTES)
  }

  check(method: string, counter: number, bodyHash: Buffer, mac: Buffer): boolean {
    return mac.length === MAC_BYTES && timingSafeEqual(mac, this.mac(method, counter, bodyHash))
  }
}

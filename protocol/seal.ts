// Keys and sealing: what is derived from a handshake, and AES-256-GCM records under it (SPEC §4, §6.2).
import { createCipheriv, createDecipheriv, createHash, hkdfSync } from 'node:crypto'
import { errors, PosternError } from './errors.ts'
import { giveBack } from './give-back.ts'
import { LANE_KEY_STEP_RECORDS, SEAL_TAG_BYTES } from './limits.ts'
import type { Direction } from './messages.ts'

const KEY_BYTES = 32
const NO_SALT = Buffer.alloc(0)
const ALGORITHM = 'aes-256-gcm'

const derive = (key: Uint8Array, salt: Uint8Array, info: Uint8Array): Buffer => Buffer.from(hkdfSync('sha256', key, salt, info, KEY_BYTES))

/** SHA-256 over messages, each after its length as u32: no two transcripts collide by moving bytes between messages. */
export function transcript(messages: readonly Buffer[]): Buffer {
  const hash = createHash('sha256')
  for (const message of messages) {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(message.length)
    hash.update(length).update(message)
  }
  return hash.digest()
}

/** The key of WELCOME, from HELLO, CHALLENGE and PROOF. */
export function welcomeKey(opaqueKey: Uint8Array, firstThree: readonly Buffer[]): Buffer {
  return derive(opaqueKey, transcript(firstThree), Buffer.from('postern1 welcome'))
}

/** The session secret, from all four messages. */
export function sessionSecret(opaqueKey: Uint8Array, allFour: readonly Buffer[]): Buffer {
  return derive(opaqueKey, transcript(allFour), Buffer.from('postern1 session'))
}

export function channelKey(secret: Buffer): Buffer {
  return derive(secret, NO_SALT, Buffer.from('postern1 channel'))
}

/** The keys of one lane in one direction; seals or opens records by their numbers. */
export class LaneSeal {
  private key: Buffer
  private step = 0
  private readonly nonce = Buffer.alloc(12)

  constructor(secret: Buffer, direction: Direction, lane: number) {
    const info = Buffer.alloc(5)
    info[0] = direction
    info.writeUInt32BE(lane, 1)
    this.key = derive(secret, NO_SALT, Buffer.concat([Buffer.from('postern1 lane'), info]))
  }

  /** Seals `plain` in `into` at `at`: cipher text and tag. Each number is sealed once only. */
  seal(number: number, plain: Buffer, into: Buffer, at: number): number {
    this.aim(number)
    const cipher = createCipheriv(ALGORITHM, this.key, this.nonce)
    const text = cipher.update(plain)
    cipher.final()
    at += text.copy(into, at)
    giveBack(text)
    return at + cipher.getAuthTag().copy(into, at)
  }

  /** Opens a sealed payload, whose memory is given back; throws a `protocol_error` when a byte of it was changed. */
  open(number: number, sealed: Buffer): Buffer {
    if (sealed.length < SEAL_TAG_BYTES) throw new PosternError(errors.protocol_error, 'a sealed record without its tag')
    this.aim(number)
    const textEnd = sealed.length - SEAL_TAG_BYTES
    const decipher = createDecipheriv(ALGORITHM, this.key, this.nonce)
    decipher.setAuthTag(sealed.subarray(textEnd))
    const plain = decipher.update(sealed.subarray(0, textEnd))
    try {
      decipher.final()
    } catch {
      throw new PosternError(errors.protocol_error, 'a sealed record that was changed on the way')
    }
    giveBack(sealed)
    return plain
  }

  // Records come in order, so the key only ever steps forward.
  private aim(number: number): void {
    const step = Math.floor(number / LANE_KEY_STEP_RECORDS)
    if (step < this.step) throw new PosternError(errors.protocol_error, 'a record from before the key stepped')
    for (; this.step < step; this.step++) this.key = derive(this.key, NO_SALT, Buffer.from('postern1 step'))
    this.nonce.writeUInt32BE(Math.floor(number / 0x1_0000_0000), 4)
    this.nonce.writeUInt32BE(number >>> 0, 8)
  }
}

/** Seals WELCOME's inside under its key (nonce 0: the key is used once). */
export function sealOnce(key: Buffer, plain: Buffer): Buffer {
  const cipher = createCipheriv(ALGORITHM, key, Buffer.alloc(12))
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

/** Opens what {@link sealOnce} sealed; `undefined` if the key or a byte is wrong. */
export function openOnce(key: Buffer, sealed: Buffer): Buffer | undefined {
  if (sealed.length < SEAL_TAG_BYTES) return undefined
  const textEnd = sealed.length - SEAL_TAG_BYTES
  const decipher = createDecipheriv(ALGORITHM, key, Buffer.alloc(12))
  decipher.setAuthTag(sealed.subarray(textEnd))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(0, textEnd)), decipher.final()])
  } catch {
    return undefined
  }
}

// The frames of a record: their numbers, their sizes and how each is written (SPEC §8).
import type { ErrorCode } from './errors.ts'
import { headSize, writeHead } from './head.ts'
import type { Fields, Opening } from './stream.ts'
import { varintSize, writeVarint } from './varint.ts'

export const Frame = {
  open: 0x01,
  head: 0x02,
  data: 0x03,
  end: 0x04,
  stop: 0x05,
  reset: 0x06,
  credit: 0x07,
  ack: 0x08,
  settings: 0x09,
  drain: 0x0a,
  ping: 0x0b,
} as const

/** An unknown frame whose type has this bit is skipped. */
export const SKIP_BIT = 0x80
/** In the flags of OPEN and HEAD: the sender's direction is complete. */
export const FLAG_END = 1
export const UUID_BYTES = 16
export const PING_BYTES = 8
/** Type, longest length and longest stream id before a DATA frame's body. */
export const DATA_OVERHEAD_BYTES = 1 + 4 + 8
export const ACK_MAX_BYTES = 1 + 1 + 8

/** Bytes of a frame whose contents take `contents` bytes. */
export const frameSize = (contents: number): number => 1 + varintSize(contents) + contents

function begin(into: Buffer, at: number, type: number, contents: number): number {
  into[at] = type
  return writeVarint(into, at + 1, contents)
}

/** Bytes of the contents of OPEN with `opening`'s head and so much body. Throws `head_too_large`. */
export function openContents(id: number, opening: Opening, credit: number, bodyBytes: number): number {
  return varintSize(id) + 2 + varintSize(credit) + UUID_BYTES + 1 + opening.service.length + headSize(opening.fields, opening.extension) + bodyBytes
}

export function writeOpen(into: Buffer, at: number, contents: number, id: number, opening: Opening, credit: number, body: Uint8Array, ended: boolean): number {
  at = begin(into, at, Frame.open, contents)
  at = writeVarint(into, at, id)
  into[at++] = opening.kind
  into[at++] = ended ? FLAG_END : 0
  at = writeVarint(into, at, credit)
  at += into.write(opening.uuid, at, UUID_BYTES, 'hex')
  into[at++] = opening.service.length
  at += into.write(opening.service, at, 'latin1')
  at = writeHead(into, at, opening.fields, opening.extension)
  into.set(body, at)
  return at + body.length
}

export function headContents(id: number, fields: Fields, extension: Fields, bodyBytes: number): number {
  return varintSize(id) + 1 + headSize(fields, extension) + bodyBytes
}

export function writeHeadFrame(into: Buffer, at: number, contents: number, id: number, fields: Fields, extension: Fields, body: Uint8Array, ended: boolean): number {
  at = begin(into, at, Frame.head, contents)
  at = writeVarint(into, at, id)
  into[at++] = ended ? FLAG_END : 0
  at = writeHead(into, at, fields, extension)
  into.set(body, at)
  return at + body.length
}

/** Writes what stands before a DATA frame's body; the caller puts `bodyBytes` bytes after it. */
export function writeDataPrefix(into: Buffer, at: number, id: number, bodyBytes: number): number {
  at = begin(into, at, Frame.data, varintSize(id) + bodyBytes)
  return writeVarint(into, at, id)
}

export function endContents(id: number, trailers: Fields, extension: Fields): number {
  return varintSize(id) + (trailers.length + extension.length === 0 ? 0 : headSize(trailers, extension))
}

export function writeEnd(into: Buffer, at: number, contents: number, id: number, trailers: Fields, extension: Fields): number {
  at = begin(into, at, Frame.end, contents)
  at = writeVarint(into, at, id)
  return trailers.length + extension.length === 0 ? at : writeHead(into, at, trailers, extension)
}

/** STOP, or with `begun` RESET. */
export function encodeRefusal(type: typeof Frame.stop | typeof Frame.reset, id: number, code: ErrorCode, begun: boolean): Buffer {
  const tail = type === Frame.reset ? 1 : 0
  const contents = varintSize(id) + varintSize(code.number) + tail
  const out = Buffer.allocUnsafe(frameSize(contents))
  const at = writeVarint(out, writeVarint(out, begin(out, 0, type, contents), id), code.number)
  if (tail === 1) out[at] = begun ? 1 : 0
  return out
}

/** CREDIT: `numbers` stream and absolute byte; ACK: count; DRAIN: last id. */
export function numbersContents(a: number, b?: number): number {
  return varintSize(a) + (b === undefined ? 0 : varintSize(b))
}

export function writeNumbers(into: Buffer, at: number, type: number, a: number, b?: number): number {
  at = writeVarint(into, begin(into, at, type, numbersContents(a, b)), a)
  return b === undefined ? at : writeVarint(into, at, b)
}

export function encodePing(answer: boolean, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(Frame.ping, 1 + PING_BYTES, answer ? 1 : 0), payload])
}

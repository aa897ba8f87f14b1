// Heads and trailers on the wire: ordered fields and an extension map, lengths first, then all text in one piece (SPEC §9.1).
import { errors, PosternError } from './errors.ts'
import { HEAD_MAX_BYTES, HEAD_MAX_EXTENSIONS, HEAD_MAX_FIELDS } from './limits.ts'
import type { Reader } from './reader.ts'
import { type Fields, NO_FIELDS } from './stream.ts'
import { varintSize, writeVarint } from './varint.ts'

/** A head's size on the wire. Throws a `head_too_large` when it is over the limits. */
export function headSize(fields: Fields, extension: Fields): number {
  const size = listSize(fields, HEAD_MAX_FIELDS) + listSize(extension, HEAD_MAX_EXTENSIONS)
  if (size > HEAD_MAX_BYTES) throw new PosternError(errors.head_too_large, `a head of ${String(size)} bytes`)
  return size
}

function listSize(list: Fields, maxEntries: number): number {
  const entries = list.length >>> 1
  if (entries > maxEntries) throw new PosternError(errors.head_too_large, `${String(entries)} fields`)
  let size = varintSize(entries)
  for (let i = 0; i < list.length; i++) {
    const length = list[i]!.length
    size += length + varintSize(length)
  }
  return size
}

/** Writes a head that was measured by {@link headSize}; returns the place after it. */
export function writeHead(into: Buffer, at: number, fields: Fields, extension: Fields): number {
  return writeList(into, writeList(into, at, fields), extension)
}

// One native call for all text: a call per string costs more than the copying.
function writeList(into: Buffer, at: number, list: Fields): number {
  at = writeVarint(into, at, list.length >>> 1)
  if (list.length === 0) return at
  let text = ''
  for (let i = 0; i < list.length; i++) {
    const part = list[i]!
    at = writeVarint(into, at, part.length)
    text += part
  }
  return at + into.write(text, at, 'latin1')
}

/** Reads a list of at most `maxEntries` (name, value) pairs. */
function readList(reader: Reader, maxEntries: number): Fields {
  const entries = reader.varint()
  if (entries === 0) return NO_FIELDS
  if (entries > maxEntries) throw new PosternError(errors.protocol_error, `a head of ${String(entries)} fields`)
  const lengths = new Array<number>(entries * 2)
  let total = 0
  for (let i = 0; i < lengths.length; i++) total += lengths[i] = reader.varint()
  if (total > HEAD_MAX_BYTES) throw new PosternError(errors.protocol_error, `a head of ${String(total)} bytes`)
  const text = reader.latin1(total)
  const list = new Array<string>(lengths.length)
  for (let i = 0, at = 0; i < lengths.length; i++) list[i] = text.slice(at, (at += lengths[i]!))
  return list
}

export const readFields = (reader: Reader): Fields => readList(reader, HEAD_MAX_FIELDS)
export const readExtension = (reader: Reader): Fields => readList(reader, HEAD_MAX_EXTENSIONS)

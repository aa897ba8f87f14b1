// The join string: all an agent needs to find its gateway and prove itself, in one word to copy (SPEC §3.1).

/** What a join string says. `url` is the gateway's base URL, `key` its OPAQUE public key (base64url). */
export interface Join {
  readonly url: string
  readonly id: string
  readonly secret: string
  readonly key: string
}

const PREFIX = 'pj1_'
/** `tcp` and `tls` are a port of the gateway itself. */
const PROTOCOLS: ReadonlySet<string> = new Set(['http:', 'https:', 'tcp:', 'tls:'])
/** A join string is some 300 bytes; whoever pastes more pasted something else. */
const JOIN_STRING_MAX_BYTES = 4096

/** Writes `join` as one word of `A-Za-z0-9_-`, safe in every shell and file. */
export function encodeJoin(join: Join): string {
  const compact = JSON.stringify({ u: join.url, i: join.id, s: join.secret, k: join.key })
  return PREFIX + Buffer.from(compact, 'utf8').toString('base64url')
}

/** Reads a join string; throws an Error that says what is wrong with it, never showing the secret. */
export function decodeJoin(word: string): Join {
  const trimmed = word.trim()
  if (!trimmed.startsWith(PREFIX)) throw new Error(`a join string begins with ${PREFIX}`)
  if (trimmed.length > JOIN_STRING_MAX_BYTES) throw new Error('the join string is too long')
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(trimmed.slice(PREFIX.length), 'base64url').toString('utf8'))
  } catch {
    throw new Error('the join string is damaged: was all of it copied?')
  }
  if (typeof parsed !== 'object' || parsed === null) throw new Error('the join string is damaged: was all of it copied?')
  const { u, i, s, k } = parsed as Record<string, unknown>
  if (typeof u !== 'string' || typeof i !== 'string' || typeof s !== 'string' || typeof k !== 'string') {
    throw new Error('the join string lacks a part: was all of it copied?')
  }
  let url: URL
  try {
    url = new URL(u)
  } catch {
    throw new Error('the join string holds no valid gateway URL')
  }
  if (!PROTOCOLS.has(url.protocol)) throw new Error('the gateway URL must be http or https, tcp or tls')
  return { url: u, id: i, secret: s, key: k }
}

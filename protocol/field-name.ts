// Names of fields (RFC 9110 §5.1): is it one, and how is it in lower case? Asked of the same few names for every request, so the answers are remembered.

/** RFC 9110 §5.6.2. */
export const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** Spellings remembered; beyond it all are forgotten, so that nobody's made-up names stay for good. */
const REMEMBERED_MAX_COUNT = 1_024
/** Longer ones are rare, and not remembered. */
const REMEMBERED_MAX_CHARACTERS = 48

const remembered = new Map<string, string>()

/** The name in lower case; '' if it is none. */
export function fieldName(name: string): string {
  return remembered.get(name) ?? look(name)
}

function look(name: string): string {
  if (!TOKEN.test(name)) return ''
  const lower = name.toLowerCase()
  if (name.length > REMEMBERED_MAX_CHARACTERS) return lower
  if (remembered.size >= REMEMBERED_MAX_COUNT) remembered.clear()
  // A copy: the name that came is a piece of a head, and would keep all of it.
  remembered.set(Buffer.from(name, 'latin1').toString('latin1'), lower)
  return lower
}

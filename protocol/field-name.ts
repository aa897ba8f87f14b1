// Names of fields (RFC 9110 §5.1): is it one, and how is it in lower case? Asked of the same few names for every request, so the answers are remembered.

/** RFC 9110 §5.6.2. */
export const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** Sets of two places each. A third spelling that falls into a set takes the older one's place, so that nobody's made-up names stay for good. */
const SETS_COUNT = 1_024
/** Longer ones are rare, and not remembered. */
const REMEMBERED_MAX_CHARACTERS = 48

// Not a Map: V8 puts every name it is asked for into its own table of strings first, which costs more than all else here.
const spellings = new Array<string>(2 * SETS_COUNT).fill('')
const lowers = new Array<string>(2 * SETS_COUNT).fill('')

/** The name in lower case; '' if it is none. */
export function fieldName(name: string): string {
  const place = setOf(name)
  if (spellings[place] === name) return lowers[place]!
  if (spellings[place + 1] === name) return lowers[place + 1]!
  return look(name, place)
}

// Four characters tell the usual names apart, but for pairs.
function setOf(name: string): number {
  const { length } = name
  if (length === 0) return 0
  const ends = name.charCodeAt(0) * 37 + name.charCodeAt(length - 1)
  const middle = name.charCodeAt(length >>> 1) * 37 + name.charCodeAt((length * 3) >>> 2)
  return 2 * ((ends * 1_369 + middle * 37 + length) % SETS_COUNT)
}

function look(name: string, place: number): string {
  if (!TOKEN.test(name)) return ''
  const lower = name.toLowerCase()
  if (name.length > REMEMBERED_MAX_CHARACTERS) return lower
  spellings[place + 1] = spellings[place]!
  lowers[place + 1] = lowers[place]!
  // A copy: the name that came is a piece of a head, and would keep all of it.
  spellings[place] = Buffer.from(name, 'latin1').toString('latin1')
  lowers[place] = lower
  return lower
}

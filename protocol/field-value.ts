// The value of a field within the text of a head, without the blanks around it (RFC 9110 §5.5): only SP and HTAB are blanks.

export function fieldValue(text: string, from: number, to: number): string {
  while (from < to && isBlank(text.charCodeAt(from))) from++
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}

const isBlank = (byte: number): boolean => byte === 0x20 || byte === 0x09

// What the control server answered a command, as the command takes it and a person reads it.
import type { Control, Reply } from './control-client.ts'
import { SettingsError } from './settings.ts'

/** The gateway refused it and said why: exit code 1. */
export class RefusedError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'RefusedError'
  }
}

const PAGE_COUNT = 1_000
const DATE = /^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2}))?$/

/** The body of an answer that is none of a refusal. Throws a {@link RefusedError}. */
export function need(reply: Reply): unknown {
  if (reply.status < 300) return reply.body
  const { detail } = (typeof reply.body === 'object' && reply.body !== null ? reply.body : {}) as { detail?: string }
  throw new RefusedError(detail ?? `HTTP ${String(reply.status)}`)
}

/** All entries of a list, page by page. */
export async function list(call: Control['call'], path: string): Promise<unknown[]> {
  const items: unknown[] = []
  for (let after = ''; ; ) {
    const query = `limit=${String(PAGE_COUNT)}${after === '' ? '' : `&after=${encodeURIComponent(after)}`}`
    const page = need(await call('GET', `${path}${path.includes('?') ? '&' : '?'}${query}`)) as { items: unknown[]; next: string | null }
    items.push(...page.items)
    if (page.next === null) return items
    after = page.next
  }
}

/** A time as somebody types it; null: never. */
export function moment(typed: string): string | null {
  if (typed === 'never') return null
  const at = DATE.test(typed) ? new Date(typed) : undefined
  if (at === undefined || Number.isNaN(at.getTime())) throw new SettingsError(`--expires: ${JSON.stringify(typed)} is neither a date nor never`)
  return at.toISOString()
}

export const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

// What agents say of themselves is shown too: nothing in it moves the cursor of a terminal.
const safe = (cell: string): string => cell.replace(/[\p{Cc}\p{Cf}]/gu, '?')

/** A table whose rows come one after the other: its head with the first, each column as wide as what stood in it so far, up to so many characters. */
export function growingTable(head: readonly string[], columnMaxCharacters = Infinity): (rows: readonly (readonly string[])[]) => string {
  const widths = head.map(() => 0)
  let begun = false
  return (rows) => {
    const lines = (begun ? rows : [head, ...rows]).map((row) => row.map(safe))
    begun = true
    for (const row of lines) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i]!, Math.min(cell.length, columnMaxCharacters))
    return lines.map((row) => `${row.map((cell, i) => cell.padEnd(widths[i]!)).join('  ').trimEnd()}\n`).join('')
  }
}

export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string => growingTable(head)(rows)

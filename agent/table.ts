// A table for people: columns as wide as what stands in them.

/** Lines without newlines; the last column is not filled up. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) => row.map((cell, column) => (column === head.length - 1 ? cell : cell.padEnd(widths[column]!))).join('  ').trimEnd())
}

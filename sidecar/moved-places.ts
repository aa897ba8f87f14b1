// Which changes of services are published at once: those between which a hostname may move, with others beside them as long as they are few.

/** Services that are published before traffic has its turn, unless more of them belong together: a route file takes some 0.2 ms. */
const PUBLISHED_MAX_COUNT = 32
/** As many parents of a hostname as nginx asks for a wildcard. */
const PARENTS_MAX_COUNT = 4

/** Changes in groups: two that have a hostname in common, or one of them a wildcard that may stand in for it, are in the same. */
export function together<Change>(changes: readonly Change[], hostsOf: (change: Change) => readonly string[]): Change[][] {
  const wildcards = new Set(changes.flatMap(hostsOf).filter((host) => host.startsWith('+.')))
  const namesOf = (change: Change): string[] => hostsOf(change).flatMap((host) => [host, ...parents(host).filter((parent) => wildcards.has(parent))])
  const byName = new Map<string, Change[]>()
  const groups = new Set<Change[]>()
  for (const change of changes) {
    const merged = new Set(namesOf(change).map((name) => byName.get(name)).filter((group) => group !== undefined))
    const group = [...[...merged].flat(), change]
    for (const old of merged) groups.delete(old)
    groups.add(group)
    for (const one of group) for (const name of namesOf(one)) byName.set(name, group)
  }
  return filled([...groups])
}

function filled<Change>(groups: readonly Change[][]): Change[][] {
  const batches: Change[][] = []
  for (const group of groups) {
    const last = batches.at(-1)
    if (last !== undefined && last.length + group.length <= PUBLISHED_MAX_COUNT) last.push(...group)
    else batches.push([...group])
  }
  return batches
}

function parents(host: string): string[] {
  const labels = host.replace(/^\+\./, '').split('.')
  return labels.slice(1, 1 + PARENTS_MAX_COUNT).map((_label, i) => `+.${labels.slice(i + 1).join('.')}`)
}

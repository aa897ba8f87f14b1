// What was measured, and the table made of it: medians of the rounds that count, and the medians of each round's ratios.
import type { Measurement } from './options.ts'

/** One run of one measurement over one peer in one round. */
export interface Run {
  readonly peer: string
  readonly measurement: Measurement
  readonly round: number
  /** Requests a second, MB/s, milliseconds; for `idle` bytes of gateway and agent together. */
  readonly value: number
  /** What others used of the machine meanwhile: 0 to 1. */
  readonly foreign: number
  /** CPU seconds by part. */
  readonly cpu: Readonly<Record<string, number>>
  readonly requests: number
  readonly p99Ms?: number
  /** For `idle`: bytes by part. */
  readonly memory?: Readonly<Record<string, number>>
}

export const UNITS: Readonly<Record<Measurement, string>> = { small: 'requests/s', down: 'MB/s', up: 'MB/s', first: 'ms', idle: 'MB' }

export const TITLES: Readonly<Record<Measurement, string>> = {
  small: 'Small answers (100 bytes)',
  down: 'One large download',
  up: 'One large upload',
  first: 'From connect to the first byte',
  idle: 'Memory when idle',
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[middle] ?? Number.NaN) : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}

function show(value: number): string {
  if (Number.isNaN(value)) return '–'
  if (value >= 1_000) return Math.round(value).toLocaleString('en')
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)
}

function spread(values: readonly number[]): string {
  return values.length < 2 ? '' : ` (${show(Math.min(...values))}–${show(Math.max(...values))})`
}

/** The ratio of `peer` to `other`, round by round where both count; median. */
export function ratio(runs: readonly Run[], measurement: Measurement, peer: string, other: string): number {
  const of = (name: string): Map<number, number> => new Map(runs.filter((run) => run.measurement === measurement && run.peer === name).map((run) => [run.round, run.value]))
  const others = of(other)
  return median([...of(peer)].flatMap(([round, value]) => {
    const base = others.get(round)
    return base === undefined ? [] : [value / base]
  }))
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function microseconds(runs: readonly Run[], part: string): number {
  return median(runs.filter((run) => run.cpu[part] !== undefined).map((run) => ((run.cpu[part] ?? 0) / run.requests) * 1e6))
}

function sectionOf(runs: readonly Run[], measurement: Measurement, peers: readonly string[], bases: readonly string[]): string[] {
  const lines = [`## ${TITLES[measurement]}`, '']
  if (measurement === 'idle') {
    lines.push(row(['path', 'nginx MB', 'gateway MB', 'agent MB']), row(['---', '---:', '---:', '---:']))
    for (const peer of peers) {
      const memory = runs.find((run) => run.measurement === 'idle' && run.peer === peer)?.memory ?? {}
      lines.push(row([peer, ...['nginx', 'gateway', 'agent'].map((part) => show((memory[part] ?? Number.NaN) / 1e6))]))
    }
    return [...lines, '']
  }
  const small = measurement === 'small'
  const perRequest = small ? 'µs CPU a request: ' : 'CPU s: '
  const head = ['path', `${UNITS[measurement]} (spread)`, ...bases.map((peer) => `to ${peer}`), ...(small || measurement === 'first' ? ['p99 ms'] : []),
    ...(measurement === 'first' ? [] : ['nginx', 'gateway', 'agent'].map((part, index) => (index === 0 ? perRequest : '') + part)), 'rounds']
  lines.push(row(head), row(head.map((_, index) => (index === 0 ? '---' : '---:'))))
  for (const peer of peers) {
    const own = runs.filter((run) => run.measurement === measurement && run.peer === peer)
    const values = own.map((run) => run.value)
    lines.push(row([
      peer,
      show(median(values)) + spread(values),
      ...bases.map((other) => (other === peer ? '' : show(ratio(runs, measurement, peer, other)))),
      ...(small || measurement === 'first' ? [show(median(own.map((run) => run.p99Ms ?? Number.NaN)))] : []),
      ...(measurement === 'first' ? [] : ['nginx', 'gateway', 'agent'].map((part) =>
        show(small ? microseconds(own, part) : median(own.filter((run) => run.cpu[part] !== undefined).map((run) => run.cpu[part] ?? 0))))),
      String(own.length),
    ]))
  }
  return [...lines, '']
}

/** The tables, as Markdown, with each peer's ratios to the `bases`. Runs under too much foreign load are left out, and said to be. */
export function tables(all: readonly Run[], measurements: readonly Measurement[], peers: readonly string[], bases: readonly string[], foreignMax: number): string {
  const worthless = all.filter((run) => run.foreign > foreignMax)
  const good = all.filter((run) => run.foreign <= foreignMax)
  const lines = measurements.flatMap((measurement) => sectionOf(good, measurement, peers, bases))
  for (const run of worthless) {
    lines.push(`- worthless, left out: ${run.measurement}, ${run.peer}, round ${String(run.round)}: others used ${(run.foreign * 100).toFixed(0)} % of the machine`)
  }
  if (worthless.length > 0) lines.push('')
  const measured = new Set(good.map((run) => `${run.measurement} ${run.peer}`))
  for (const measurement of measurements) {
    for (const peer of peers) if (!measured.has(`${measurement} ${peer}`)) lines.push(`- **nothing counts** for ${measurement}, ${peer}: measure again on a quiet machine`)
  }
  return lines.join('\n')
}

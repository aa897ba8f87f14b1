// `npm run bench`: small answers, a large body each way, time to the first byte and idle memory, for Postern and its peers, interleaved (issue 2, point 8).
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../dev/free-port.ts'
import { endOnSignal, Processes } from '../dev/processes.ts'
import { download, firstBytes, smallAnswers, upload } from './load.ts'
import { type Measurement, type Options, readOptions, USAGE } from './options.ts'
import { startOrigin } from './origin.ts'
import type { Ground, Path, Peer } from './peer.ts'
import { CHANNELS } from './peers/channels.ts'
import { direct } from './peers/direct.ts'
import { posternAlways, posternNever } from './peers/postern.ts'
import { ssh } from './peers/ssh.ts'
import { cpuSeconds, memoryBytes, withForeignLoad } from './proc.ts'
import { median, type Run, tables, UNITS } from './result.ts'

const PEERS: readonly Peer[] = [direct, posternNever, posternAlways, ssh]

function pids(path: Path, part: string): number[] {
  return (path.parts[part] ?? []).map((running) => running.pid)
}

function cpuByPart(path: Path): Record<string, number> {
  return Object.fromEntries(Object.keys(path.parts).map((part) => [part, cpuSeconds(pids(path, part))]))
}

interface Outcome {
  value: number
  requests: number
  p99Ms?: number
}

async function once(measurement: Measurement, path: Path, options: Options): Promise<Outcome> {
  switch (measurement) {
    case 'small': {
      const { perSecond, requests, p99Ms } = await smallAnswers(path, options.seconds, options.connections)
      return { value: perSecond, requests, p99Ms }
    }
    case 'down':
      return { value: options.fileBytes / 1e6 / (await download(path, options.fileBytes)), requests: 1 }
    case 'up':
      return { value: options.fileBytes / 1e6 / (await upload(path, options.fileBytes)), requests: 1 }
    case 'first': {
      const all = (await firstBytes(path, options.firstBytes)).toSorted((a, b) => a - b)
      return { value: median(all), requests: all.length, p99Ms: all[Math.ceil(all.length * 0.99) - 1] ?? Number.NaN }
    }
    case 'idle':
      throw new Error('idle memory is read, not run')
  }
}

async function measure(measurement: Measurement, peer: string, path: Path, round: number, options: Options, ours: () => number[]): Promise<Run> {
  const before = cpuByPart(path)
  const { value, foreign } = await withForeignLoad(ours, () => once(measurement, path, options))
  const after = cpuByPart(path)
  const cpu = Object.fromEntries(Object.entries(after).map(([part, seconds]) => [part, seconds - (before[part] ?? 0)]))
  return { peer, measurement, round, foreign, cpu, ...value }
}

function machine(): string {
  const name = /^model name\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown CPU'
  return `${String(cpus().length)} cores (${name}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()}`
}

/** Peers that are measured side by side, and what they are held against. */
interface Part {
  readonly peers: readonly Peer[]
  readonly only: readonly Measurement[]
  readonly bases: readonly string[]
}

function partsOf(options: Options): { main: Part; channels: Part } {
  const unknown = options.peers.filter((name) => ![...PEERS, ...CHANNELS].some((peer) => peer.name === name))
  if (unknown.length > 0) throw new Error(`no such peer: ${unknown.join(', ')}; there are ${[...PEERS, ...CHANNELS].map(({ name }) => name).join(', ')}`)
  const wanted = (peer: Peer): boolean => options.peers.length === 0 || options.peers.includes(peer.name)
  const peers = PEERS.some(wanted) ? PEERS.filter((peer) => peer === direct || wanted(peer)) : []
  // Beside them once more, so that a channel and ssh are of one minute.
  const channels = CHANNELS.some(wanted) ? [...CHANNELS.filter((peer) => peer === CHANNELS[0] || wanted(peer)), ssh] : []
  return {
    main: { peers, only: options.only, bases: peers.map(({ name }) => name) },
    channels: { peers: channels, only: options.only.filter((name) => name === 'small' || name === 'down'), bases: [CHANNELS[0]!.name, ssh.name] },
  }
}

async function runPart({ peers, only }: Part, options: Options): Promise<Run[]> {
  const dir = mkdtempSync(join(tmpdir(), 'postern-bench-'))
  const processes = new Processes()
  const runs: Run[] = []
  endOnSignal(processes, dir, 1)
  try {
    processes.onDeath = (dead, how) => console.error(`${dead.name} died (${how}):\n${dead.log()}`)
    const originPort = await freePort()
    const ground: Ground = { processes, folder: (name) => join(dir, name), originPort }
    await startOrigin(processes, ground.folder('origin'), originPort, options.fileBytes)
    const paths: { peer: string; path: Path }[] = []
    for (const peer of peers) paths.push({ peer: peer.name, path: await peer.start(ground) })
    const ours = (): number[] => [process.pid, ...processes.pids()]

    if (only.includes('idle')) {
      for (const { peer, path } of paths) {
        const memory = Object.fromEntries(Object.keys(path.parts).map((part) => [part, memoryBytes(pids(path, part))]))
        runs.push({ peer, measurement: 'idle', round: 1, value: (memory['gateway'] ?? 0) + (memory['agent'] ?? 0), foreign: 0, cpu: {}, requests: 0, memory })
      }
    }
    for (const measurement of only.filter((name) => name !== 'idle')) {
      // What was never run before is slow: the first round does not count, unless nothing does.
      for (const { path } of paths) if (!options.tiny) await once(measurement, path, { ...options, seconds: 1 })
      for (let round = 1; round <= options.pairs; round++) {
        for (let turn = 0; turn < paths.length; turn++) {
          const one = paths[(turn + round) % paths.length]
          if (one === undefined) continue
          const run = await measure(measurement, one.peer, one.path, round, options, ours)
          runs.push(run)
          const worth = run.foreign > options.foreignMax ? '  (foreign load: worthless)' : ''
          console.error(`${measurement} ${String(round)}/${String(options.pairs)} ${one.peer}: ${run.value.toFixed(run.value < 100 ? 2 : 0)} ${UNITS[measurement]}${worth}`)
        }
      }
    }
  } finally {
    await processes.stopAll()
    rmSync(dir, { recursive: true, force: true })
  }
  return runs
}

/** What is told of a part: its peers and its tables. */
async function tell({ peers, only, bases }: Part, runs: readonly Run[], options: Options): Promise<string> {
  const about: string[] = []
  for (const peer of peers) about.push(`- ${peer.name}: ${await peer.about()}`)
  return `${about.join('\n')}\n\n${tables(runs, only, peers.map(({ name }) => name), bases, options.tiny ? Infinity : options.foreignMax)}`
}

async function bench(options: Options): Promise<string> {
  const { main, channels } = partsOf(options)
  const runs = main.peers.length === 0 ? [] : await runPart(main, options)
  const overChannels = channels.peers.length === 0 ? [] : await runPart(channels, options)
  return `# Result of the last \`npm run bench\`

${new Date().toISOString().slice(0, 10)}, ${machine()}, Node ${process.version}, load average ${loadavg().map((load) => load.toFixed(2)).join(' ')} at the end.
Everything on one machine over 127.0.0.1. ${String(options.pairs)} interleaved rounds; small answers: ${String(options.connections)} connections,
${String(options.seconds)} s a run; large bodies: ${String(options.fileBytes / 2 ** 20)} MiB.
Medians; a ratio is the median of each round's own ratio. Each path has an nginx of its own in front, all set the same, with \`reuseport\`: its workers get alike many connections.
CPU time is that of the part with its children.

${await tell(main, runs, options)}
# Channels

Postern over each kind of channel, policy always, and ssh beside them.

${await tell(channels, overChannels, options)}
`
}

let options: Options
try {
  options = readOptions(process.argv.slice(2))
} catch (error) {
  console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`)
  process.exit(2)
}
try {
  const result = await bench(options)
  console.log(result)
  if (!options.tiny) writeFileSync(join(import.meta.dirname, 'RESULTS.md'), result)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}

// On a link shaped to 4 Mbit/s each way: how long small answers wait beside a large download, and whether the channel lives (issue 2, Speed).
// Needs root: it makes two network namespaces, one for the edge and one for the agent's site, and takes them away again.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { edgeParts } from '../dev/edge.ts'
import { startNginx } from '../dev/nginx.ts'
import { endOnSignal, Processes, run } from '../dev/processes.ts'
import { type Policy, startAgent, startGateway } from '../dev/stack.ts'
import { type Drip, firstBytes, startDownload } from './load.ts'
import { startOrigin } from './origin.ts'
import { median } from './result.ts'

const RATE = '4mbit'
/** A small queue at the narrow place, as a good access line has: what waits beyond it waits in us. */
const SHAPE = ['tbf', 'rate', RATE, 'burst', '32k', 'latency', '200ms']
const FILE_BYTES = 100 * 1024 * 1024
const PORT = 8_080
const EDGE_ADDRESS = '10.99.99.1'
const SITE_ADDRESS = '10.99.99.2'
/** One small request so often; beyond the first seconds, in which the window finds the link's size. */
const ASK_EVERY_MS = 500

export interface Shaped {
  /** Milliseconds from connect to the first byte, beside the download. */
  smallMs: { median: number; worst: number; count: number }
  /** The same with nothing beside. */
  quietMs: { median: number }
  /** Of the download, in Mbit/s. */
  downMbit: number
  /** How often a channel was lost. */
  channelsLost: number
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args)
}

/** Makes the two namespaces with the narrow link between them; the function it gives takes them away. */
async function layOut(edge: string, site: string): Promise<() => void> {
  const away = (): void => {
    for (const name of [edge, site]) spawnSync('ip', ['netns', 'delete', name], { stdio: 'ignore' })
  }
  try {
    for (const name of [edge, site]) {
      await ip('netns', 'add', name)
      await ip('-n', name, 'link', 'set', 'lo', 'up')
    }
    await ip('-n', edge, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'wire', 'netns', site)
    for (const [name, address] of [[edge, EDGE_ADDRESS], [site, SITE_ADDRESS]] as const) {
      await ip('-n', name, 'address', 'add', `${address}/30`, 'dev', 'wire')
      await ip('-n', name, 'link', 'set', 'wire', 'up')
      await run('tc', ['-n', name, 'qdisc', 'add', 'dev', 'wire', 'root', ...SHAPE])
    }
  } catch (error) {
    away()
    throw error
  }
  return away
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Runs in the edge's namespace; agent and origin in the site's. */
async function measure(site: string, seconds: number, policy: Policy): Promise<Shaped> {
  const dir = mkdtempSync(join(tmpdir(), 'postern-shaped-'))
  const processes = new Processes()
  endOnSignal(processes, dir, 1)
  const within = ['ip', 'netns', 'exec', site]
  let down: Drip | undefined
  try {
    processes.onDeath = (dead, how) => console.error(`${dead.name} died (${how}):\n${dead.log()}`)
    const gateway = await startGateway(processes, { dir, publicUrl: `http://${EDGE_ADDRESS}:${String(PORT)}`, policy })
    await startNginx(processes, 'nginx', { dir: join(dir, 'nginx'), port: PORT, ...(await edgeParts(join(dir, 'edge'), gateway.runDir, PORT, '0.0.0.0')) })
    await startOrigin(processes, join(dir, 'origin'), PORT, FILE_BYTES, within)
    const agent = await startAgent(processes, gateway, { id: 'site', service: 'shaped', host: 'shaped.localhost', target: String(PORT), within })
    const target = { port: PORT, host: 'shaped.localhost' }
    const quiet = await firstBytes(target, 10)
    down = startDownload(target, Infinity)
    const before = { log: gateway.running.log().length + agent.log().length }
    await down.begun
    const asked: number[] = []
    const until = performance.now() + seconds * 1_000
    while (performance.now() < until) {
      asked.push(...(await firstBytes(target, 1)))
      await pause(ASK_EVERY_MS)
    }
    const { bytes, elapsedMs } = down.soFar()
    const told = `${gateway.running.log()}\n${agent.log()}`.slice(-(gateway.running.log().length + agent.log().length - before.log))
    return {
      smallMs: { median: median(asked), worst: Math.max(...asked), count: asked.length },
      quietMs: { median: median(quiet) },
      downMbit: (bytes * 8) / 1e3 / elapsedMs,
      channelsLost: (told.match(/"event":"lost"/g) ?? []).length,
    }
  } finally {
    down?.cut()
    await processes.stopAll()
    rmSync(dir, { recursive: true, force: true })
  }
}

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '40' }, policy: { type: 'string', default: 'always' }, inside: { type: 'string' } } })
const policy = values.policy === 'never' ? 'never' : 'always'
if (values.inside === undefined) {
  const [edge, site] = [`postern-edge-${String(process.pid)}`, `postern-site-${String(process.pid)}`]
  const away = await layOut(edge, site)
  const inner = spawn('ip', ['netns', 'exec', edge, process.execPath, import.meta.filename, '--inside', site, '--seconds', values.seconds, '--policy', policy], { stdio: 'inherit' })
  // The namespaces go last: what is inside hears the signal and ends first.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => inner.kill(signal))
  process.exitCode = await new Promise<number>((resolve) => inner.once('exit', (code) => resolve(code ?? 1)))
  away()
} else {
  const result = await measure(values.inside, Number(values.seconds), policy)
  console.error(`link ${RATE} each way, policy ${policy}: download ${result.downMbit.toFixed(2)} Mbit/s; small answers beside it: median ${result.smallMs.median.toFixed(0)} ms, ` +
    `worst ${result.smallMs.worst.toFixed(0)} ms of ${String(result.smallMs.count)} (alone ${result.quietMs.median.toFixed(0)} ms); channels lost: ${String(result.channelsLost)}`)
  console.log(JSON.stringify(result))
}

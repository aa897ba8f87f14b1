// How much gateway and agent grow while many large downloads are read slowly, and whether it comes back after they are cut (issue 2, Speed).
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { edgeParts } from '../dev/edge.ts'
import { freePort } from '../dev/free-port.ts'
import { startNginx } from '../dev/nginx.ts'
import { endOnSignal, Processes } from '../dev/processes.ts'
import { type Policy, startAgent, startGateway } from '../dev/stack.ts'
import { smallAnswers, startDownload } from './load.ts'
import { startOrigin } from './origin.ts'
import { memoryBytes } from './proc.ts'

export interface Growth {
  /** MB above what it was before the downloads: at most while they ran, and when it had come back. */
  most: number
  after: number
}

export interface Memory {
  gateway: Growth
  agent: Growth
  /** What each visitor really read, in MB/s. */
  readMbPerSecond: number
}

/** The garbage collector gives memory back when it likes: so long at most. */
const COME_BACK_SECONDS = 60

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

async function measure(count: number, bytes: number, bytesPerSecond: number, seconds: number, policy: Policy): Promise<Memory> {
  const dir = mkdtempSync(join(tmpdir(), 'postern-memory-'))
  const processes = new Processes()
  endOnSignal(processes, dir, 1)
  try {
    processes.onDeath = (dead, how) => console.error(`${dead.name} died (${how}):\n${dead.log()}`)
    const [port, originPort] = [await freePort(), await freePort()]
    const gateway = await startGateway(processes, { dir, publicUrl: `http://127.0.0.1:${String(port)}`, policy })
    await startNginx(processes, 'nginx', { dir: join(dir, 'nginx'), port, ...(await edgeParts(join(dir, 'edge'), gateway.runDir, port)) })
    await startOrigin(processes, join(dir, 'origin'), originPort, bytes)
    const agent = await startAgent(processes, gateway, { id: 'memory', service: 'memory', host: 'memory.localhost', target: String(originPort) })
    const target = { port, host: 'memory.localhost' }
    // Compiled code and caches come with the first requests: they are no growth.
    await smallAnswers(target, 2, 8)
    const read = (): { gateway: number; agent: number } => ({ gateway: memoryBytes([gateway.running.pid]) / 1e6, agent: memoryBytes([agent.pid]) / 1e6 })
    const before = read()
    const most = { ...before }
    const sample = (): void => {
      const now = read()
      most.gateway = Math.max(most.gateway, now.gateway)
      most.agent = Math.max(most.agent, now.agent)
    }
    const downloads = Array.from({ length: count }, () => startDownload(target, bytesPerSecond))
    await Promise.all(downloads.map(({ begun }) => begun))
    for (let second = 0; second < seconds; second++) {
      await pause(1_000)
      sample()
    }
    const total = downloads.reduce((sum, each) => sum + each.soFar().bytes, 0)
    for (const each of downloads) each.cut()
    let after = read()
    for (let second = 0; second < COME_BACK_SECONDS; second++) {
      await pause(1_000)
      sample()
      const now = read()
      after = { gateway: Math.min(after.gateway, now.gateway), agent: Math.min(after.agent, now.agent) }
      if (after.gateway - before.gateway < 10 && after.agent - before.agent < 10) break
    }
    return {
      gateway: { most: most.gateway - before.gateway, after: after.gateway - before.gateway },
      agent: { most: most.agent - before.agent, after: after.agent - before.agent },
      readMbPerSecond: total / 1e6 / count / seconds,
    }
  } finally {
    await processes.stopAll()
    rmSync(dir, { recursive: true, force: true })
  }
}

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '20' }, megabytes: { type: 'string', default: '1000' }, rate: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '60' }, policy: { type: 'string', default: 'always' },
  },
})
const result = await measure(Number(values.count), Number(values.megabytes) * 1e6, Number(values.rate) * 1e6, Number(values.seconds), values.policy === 'never' ? 'never' : 'always')
for (const part of ['gateway', 'agent'] as const) console.error(`${part}: ${result[part].most.toFixed(1)} MB more at most, ${result[part].after.toFixed(1)} MB more afterwards`)
console.error(`each of ${values.count} visitors read ${result.readMbPerSecond.toFixed(2)} MB/s`)
console.log(JSON.stringify(result))

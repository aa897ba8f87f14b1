// How much memory of the gateway one connected agent costs that has nothing to do (issue 3, Speed).
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { edgeParts } from '../dev/edge.ts'
import { freePort } from '../dev/free-port.ts'
import { startNginx } from '../dev/nginx.ts'
import { endOnSignal, Processes, run } from '../dev/processes.ts'
import { startGateway } from '../dev/stack.ts'
import { memoryBytes } from './proc.ts'

export interface Idle {
  readonly agents: number
  /** Of the gateway, for each of them, in KB of 1,000 bytes. */
  readonly eachKb: number
}

const GATEWAY = join(import.meta.dirname, '../sidecar/main.ts')
/** Instances of one agent: a gateway takes 64. */
const INSTANCES = 50
/** Agents in one process. */
const CROWD = 250
/** So long the memory has to come to rest. */
const REST_SECONDS = 15

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

async function measure(count: number, channel: string): Promise<Idle> {
  const dir = mkdtempSync(join(tmpdir(), 'postern-idle-'))
  const processes = new Processes()
  endOnSignal(processes, dir, 1)
  try {
    const port = await freePort()
    const gateway = await startGateway(processes, { dir, publicUrl: `http://127.0.0.1:${String(port)}`, policy: 'always' })
    await startNginx(processes, 'nginx', { dir: join(dir, 'nginx'), port, ...(await edgeParts(join(dir, 'edge'), gateway.runDir, port)) })
    const joins: string[] = []
    for (let i = 0; i < Math.ceil(count / INSTANCES); i++) {
      const name = `idle-${String(i)}`
      const said = await run(process.execPath, [GATEWAY, 'agents', 'add', name, '--service', name, '--host', `${name}.localhost`, '--run-dir', gateway.runDir])
      joins.push(/\bpj1_[\w-]+/.exec(said)![0])
    }
    const crowd = async (from: number, size: number): Promise<void> => {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'crowd.ts'), channel], { stdio: ['pipe', 'pipe', 'inherit'] })
      crowds.push(child)
      child.stdin.end(Array.from({ length: size }, (_value, i) => joins[(from + i) % joins.length]).join('\n'))
      await new Promise<void>((resolve, reject) => {
        child.stdout.once('data', () => resolve())
        child.once('exit', () => reject(new Error('a crowd of agents ended')))
      })
    }
    // What the first logins need, the others need no more.
    await crowd(0, INSTANCES)
    await pause(REST_SECONDS * 1_000)
    const before = memoryBytes([gateway.running.pid])
    for (let from = 0; from < count; from += CROWD) await crowd(from, Math.min(CROWD, count - from))
    await pause(REST_SECONDS * 1_000)
    return { agents: count, eachKb: (memoryBytes([gateway.running.pid]) - before) / count / 1_000 }
  } finally {
    for (const child of crowds) child.kill('SIGKILL')
    await processes.stopAll()
    rmSync(dir, { recursive: true, force: true })
  }
}

const crowds: ReturnType<typeof spawn>[] = []
const { values } = parseArgs({ options: { agents: { type: 'string', default: '1000' }, channel: { type: 'string', default: 'auto' } } })
console.log(JSON.stringify(await measure(Number(values.agents), values.channel)))

// Postern's own parts, started as a person would start them: the gateway's command, one agent added to it, the agent's command.
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { accepts, type Processes, run, type Running, type StartOptions } from './processes.ts'

const ROOT = join(import.meta.dirname, '..')
const GATEWAY = join(ROOT, 'sidecar/main.ts')
const AGENT = join(ROOT, 'agent/main.ts')
/** As sidecar/systemd has them, for the reasons it gives: how the gateway's process keeps its memory. */
const GATEWAY_FLAGS = ['--max-semi-space-size=8']
const GATEWAY_MEMORY = { MALLOC_ARENA_MAX: '2', MALLOC_TRIM_THRESHOLD_: '1048576' }

export type Policy = 'always' | 'never'

export interface Gateway {
  readonly running: Running
  readonly runDir: string
  readonly policy: Policy
}

export interface GatewayOptions extends StartOptions {
  /** Where its run and state folders go: absolute. */
  dir: string
  /** Where agents find it. */
  publicUrl: string
  policy: Policy
  /** Further arguments for the gateway's command. */
  more?: readonly string[]
}

export async function startGateway(processes: Processes, options: GatewayOptions): Promise<Gateway> {
  const runDir = join(options.dir, 'run')
  mkdirSync(runDir, { recursive: true })
  const args = ['start', '--run-dir', runDir, '--state-dir', join(options.dir, 'state'), '--public-url', options.publicUrl, '--policy', options.policy, ...(options.more ?? [])]
  const env = { ...options.env, ...GATEWAY_MEMORY }
  const running = processes.start('gateway', process.execPath, [...GATEWAY_FLAGS, GATEWAY, ...args], { ...options, env })
  // The last that opens: the command below would take a gateway that does not listen there yet for one that does not run.
  await processes.until(running, 'control socket', () => accepts({ path: join(runDir, 'control.sock') }))
  return { running, runDir, policy: options.policy }
}

export interface AgentOptions extends StartOptions {
  id: string
  service: string
  host: string
  /** As the agent's command takes it. */
  target: string
  /** Further arguments for the agent's command. */
  more?: readonly string[]
}

/** Adds an agent and starts it; resolves when visitors get through to it. */
export async function startAgent(processes: Processes, gateway: Gateway, options: AgentOptions): Promise<Running> {
  const join_ = (await run(process.execPath, [GATEWAY, 'agents', 'add', options.id, '--service', options.service, '--host', options.host, '--run-dir', gateway.runDir])).trim()
  const word = /\bpj1_[\w-]+/.exec(join_)?.[0]
  if (word === undefined) throw new Error(`postern-gateway agents add printed no join string:\n${join_}`)
  const args = [AGENT, 'http', options.target, '--policy', gateway.policy, ...(options.more ?? [])]
  // What it remembers of its ways out goes with everything else.
  const env = { ...options.env, XDG_STATE_HOME: join(gateway.runDir, '..'), POSTERN_JOIN: word }
  const running = processes.start('agent', process.execPath, args, { ...options, env })
  const route = join(gateway.runDir, 'routes', options.host)
  await processes.until(running, 'session', () => existsSync(route) && readFileSync(route, 'latin1').startsWith('1 up '))
  return running
}

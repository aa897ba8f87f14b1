// Postern's own parts, started as a person would start them: the gateway's command, one agent added to it, the files for nginx, the agent's command.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadNjs } from './nginx.ts'
import { type Processes, run, type Running, type StartOptions } from './processes.ts'

const ROOT = join(import.meta.dirname, '..')
const GATEWAY = join(ROOT, 'sidecar/main.ts')
const AGENT = join(ROOT, 'agent/main.ts')

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
}

export async function startGateway(processes: Processes, options: GatewayOptions): Promise<Gateway> {
  const runDir = join(options.dir, 'run')
  mkdirSync(runDir, { recursive: true })
  const running = processes.start('gateway', process.execPath,
    [GATEWAY, 'start', '--run-dir', runDir, '--state-dir', join(options.dir, 'state'), '--public-url', options.publicUrl, '--policy', options.policy], options)
  await processes.until(running, 'route table', () => existsSync(join(runDir, 'routes/.mark')))
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
  const running = processes.start('agent', process.execPath, args, { ...options, env: { ...options.env, POSTERN_JOIN: word } })
  const route = join(gateway.runDir, 'routes', options.host)
  await processes.until(running, 'session', () => existsSync(route) && readFileSync(route, 'latin1').startsWith('1 up '))
  return running
}

/** Where the shipped includes look for the run directory and for the njs module. */
const SHIPPED_RUN_DIR = '/run/postern'
const SHIPPED_MODULE = '/etc/nginx/postern/postern.js'

/** Compiles the njs module and writes the includes for nginx into `dir`/edge, with `dir`/run for the run directory. */
export async function prepareEdge(dir: string): Promise<void> {
  const edge = join(dir, 'edge')
  await run('tsc', ['-p', join(ROOT, 'njs/tsconfig.json'), '--outDir', edge])
  for (const name of readdirSync(join(ROOT, 'nginx'))) {
    if (!/^postern-.*\.conf$/.test(name)) continue
    const text = readFileSync(join(ROOT, 'nginx', name), 'utf8')
    writeFileSync(join(edge, name), text.replaceAll(SHIPPED_MODULE, join(edge, 'postern.js')).replaceAll(SHIPPED_RUN_DIR, join(dir, 'run')))
  }
}

/** The parts of an nginx configuration that serve visitors and agents on one port, with the includes of `dir`/edge. */
export async function edgeParts(dir: string, port: number, address = '127.0.0.1'): Promise<{ main: string; http: string }> {
  const edge = join(dir, 'edge')
  return {
    main: await loadNjs(),
    http: `  include ${edge}/postern-http.conf;
  server {
    listen ${address}:${String(port)} default_server backlog=4096 so_keepalive=on;
    include ${edge}/postern-server.conf;
    include ${edge}/postern-agents.conf;
    location / {
      client_max_body_size 0;
      try_files "" @postern;
    }
  }`,
  }
}

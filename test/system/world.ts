// All parts at once, real ones: an origin, the gateway's process, nginx, and the agent's process.
import type { Test } from 'tap'
import type http from 'node:http'
import { freePort } from '../../dev/free-port.ts'
import { type AgentProcess, startAgent } from '../harness/agent.ts'
import { type GatewayProcess, startGateway } from '../harness/gateway.ts'
import { type Binary, type RunningNginx, startNginx } from '../harness/nginx.ts'
import { type Origin, startOrigin } from '../harness/origin.ts'
import { HOST } from './visitor.ts'

export interface World {
  readonly port: number
  /** The same site for visitors of HTTP/2 without TLS. */
  readonly h2Port: number
  readonly join: string
  readonly origin: Origin
  readonly gateway: GatewayProcess
  readonly agent: AgentProcess
  readonly nginx: RunningNginx
}

export interface WorldOptions {
  readonly handler?: http.RequestListener
  /** Instead of an origin of its own. */
  readonly target?: string
  readonly agentArguments?: readonly string[]
  readonly binary?: Binary
  /** More directives for both servers of nginx. `EDGE` in it is the folder of the includes. */
  readonly include?: string
  /** More directives for http {}. */
  readonly http?: string
  readonly settings?: Readonly<Record<string, string | number>>
  /** Lines of nginx's log that the test brings about. */
  readonly expected?: readonly RegExp[]
}

/** Starts everything and waits until the service is served. */
export async function startWorld(t: Test, options: WorldOptions = {}): Promise<World> {
  const origin = await startOrigin(t, options.handler)
  const gateway = await startGateway(t, { settings: options.settings ?? {} })
  const h2Port = await freePort()
  const binary = options.binary ?? 'debian'
  // As docs/nginx.md has it.
  const limits = 'large_client_header_buffers 4 64k; error_page 494 =431 @postern_refuse;'
  const site = `${limits} include EDGE/postern-server.conf; ${options.include ?? ''} location / { client_max_body_size 0; try_files "" $postern_location; }`
  // From 1.25.1 on nginx would rather have `http2 on;` than the word in listen.
  const listen = binary === 'new' ? `listen 127.0.0.1:${String(h2Port)}; http2 on;` : `listen 127.0.0.1:${String(h2Port)} http2;`
  const server = `include EDGE/postern-agents.conf; ${site}`
  const nginx = await startNginx(t, { runDir: gateway.runDir, binary, server, http: `${options.http ?? ''} server { ${listen} ${site} }`, expected: options.expected ?? [] })
  const join = await gateway.addAgent('agent-1', 'demo', HOST, nginx.url)
  const agent = await startAgent(t, { join, target: options.target ?? origin.url, args: options.agentArguments ?? [] })
  return { port: nginx.port, h2Port, join, origin, gateway, agent, nginx }
}

// All parts at once on sockets that outlive the gateway, and visitors who ask without a pause: for tests of restarts.
import http from 'node:http'
import { type ActivatedGateway, holdSockets } from '../harness/activation.ts'
import { type AgentProcess, startAgent } from '../harness/agent.ts'
import { type RunningNginx, startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { HOST, visit } from './visitor.ts'

export const VISITORS = 8
/** Over the 64 KiB up to which a body goes by the h1 door. */
const LARGE_BODY_BYTES = 100_000

export interface Load {
  readonly served: () => number
  readonly failures: readonly string[]
  stop(): Promise<void>
}

/** Visitors who each send one request after another: some with a body, by each door, over kept connections and new ones. */
export function load(port: number): Load {
  const failures: string[] = []
  let stopped = false
  let served = 0
  const visitor = async (number: number): Promise<void> => {
    const agent = new http.Agent({ keepAlive: true })
    while (!stopped) {
      const body = number % 4 === 1 ? 'small' : number % 4 === 2 ? Buffer.alloc(LARGE_BODY_BYTES) : undefined
      const method = body === undefined ? 'GET' : 'POST'
      const length = body === undefined ? [] : ['Content-Length', String(body.length)]
      const answer = await visit({ port, method, path: `/${String(number)}`, headers: length, ...(body === undefined ? {} : { body }), ...(number % 2 === 0 ? { agent } : {}) }).catch((error: unknown) => String(error))
      if (typeof answer === 'string') failures.push(`${method}: ${answer}`)
      else if (answer.status !== 200 || !answer.complete) failures.push(`${method}: ${String(answer.status)} ${answer.body.toString()}`)
      else served++
    }
    agent.destroy()
  }
  const visitors = Array.from({ length: VISITORS }, (_v, number) => visitor(number))
  return {
    served: () => served,
    failures,
    stop: async () => {
      stopped = true
      await Promise.all(visitors)
    },
  }
}

export interface HeldWorld {
  readonly gateway: ActivatedGateway
  readonly nginx: RunningNginx
  readonly agent: AgentProcess
}

/** Its origin answers `ok`, and at `/events` begins an answer that does not end. */
export async function startHeldWorld(t: Parameters<typeof startNginx>[0], settings: Readonly<Record<string, string>> = {}, expected: readonly RegExp[] = []): Promise<HeldWorld> {
  const gateway = await holdSockets(t, settings)
  await gateway.start()
  const origin = await startOrigin(t, (request, response) => {
    request.resume()
    request.on('end', () => (request.url === '/events' ? void response.write('first\n') : response.end('ok')))
  })
  const nginx = await startNginx(t, { runDir: gateway.runDir, expected })
  const word = await gateway.command('agents', 'add', 'a', '--service', 'demo', '--host', HOST, '--url', nginx.url)
  const agent: AgentProcess = await startAgent(t, { join: word, target: origin.url })
  await until('it is served', async () => (await visit({ port: nginx.port })).status === 200)
  return { gateway, nginx, agent }
}

// A request for an unknown name costs nginx no more CPU than one that is served, gateway and agent and all (100,000 of each).
import { readFileSync } from 'node:fs'
import net from 'node:net'
import t from 'tap'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { startOrigin } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { get } from './stand.ts'

const REQUESTS = 100_000
const CONNECTIONS = 20
const PIPELINED = 50
/**
 * Wildcards that come to those before, and the most that an unknown name may cost then, in served requests. Measured are 0.94 to 1.02 without, 1.1 with one
 * look for a wildcard and 1.2 to 1.45 with four, 2 µs for each; the rest is for a machine that does other things too.
 */
const CASES: readonly (readonly [readonly string[], number])[] = [
  [[], 1.2],
  [['+.two.test', '+.of.three.test'], 1.3],
  [['+.with.four.labels.test', '+.that.has.five.labels.test', '+.even.one.with.six.labels.test'], 1.6],
]

/** Sends that many requests, a batch at a time on one connection, and resolves when each was answered with this status. */
function ask(port: number, hosts: (index: number) => string, status: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1')
    const wanted = `HTTP/1.1 ${String(status)} `
    let asked = 0
    let answered = 0
    let rest = ''
    const batch = (): void => {
      let text = ''
      for (let index = 0; index < PIPELINED; index += 1) text += `GET / HTTP/1.1\r\nHost: ${hosts(asked + index)}\r\n\r\n`
      asked += PIPELINED
      socket.write(text)
    }
    socket.setEncoding('latin1').on('error', reject).on('data', (chunk: string) => {
      const text = rest + chunk
      const parts = text.split(wanted)
      answered += parts.length - 1
      // What may be the beginning of a status line that the chunk cuts.
      rest = (parts.at(-1) ?? '').slice(1 - wanted.length)
      if (answered < asked) return
      if (asked < REQUESTS / CONNECTIONS) batch()
      else socket.end(resolve)
    })
    batch()
  })
}

/** User and system time of a process in clock ticks (proc(5), fields 14 and 15). */
function ticks(pid: number): number {
  const fields = readFileSync(`/proc/${String(pid)}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return Number(fields[11]) + Number(fields[12])
}

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  t.test(`on nginx ${binary}`, { skip: missing(binary) ?? false, timeout: 300_000 }, async (t) => {
    const origin = await startOrigin(t, (_, response) => response.end('ok'))
    const gateway = await startGateway(t)
    const nginx = await startNginx(t, { runDir: gateway.runDir, binary, http: 'keepalive_requests 1000000;' })
    await startAgent(t, { join: await gateway.addAgent('agent', 'demo', 'demo.test', nginx.url), target: origin.url })
    await until('it is served', async () => (await get(nginx.port, 'demo.test')).status === 200, { logs: gateway.logs })
    const worker = Number(/start worker process (\d+)/.exec(nginx.logs())?.[1])
    const costs = async (hosts: (index: number) => string, status: number): Promise<number> => {
      const before = ticks(worker)
      await Promise.all(Array.from({ length: CONNECTIONS }, () => ask(nginx.port, hosts, status)))
      return ticks(worker) - before
    }
    const served = await costs(() => 'demo.test', 200)
    for (const [wildcards, max] of CASES) {
      for (const host of wildcards) await gateway.addAgent(`a${String(host.length)}`, `s${String(host.length)}`, host, nginx.url)
      // Names of five parents: the most that is asked of the file system, where there are wildcards of as many labels.
      const unknown = await costs((index) => `n${String(index)}.e.d.c.b.a.test`, 404)
      t.comment(`CPU of nginx for ${String(REQUESTS)} requests: served ${String(served * 10)} ms, unknown ${String(unknown * 10)} ms, the last wildcard ${wildcards.at(-1) ?? 'none'}`)
      t.ok(unknown <= served * max, `unknown ${String(unknown)} ticks, served ${String(served)}`)
    }
  })
}

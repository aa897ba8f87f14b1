// A request for an unknown name costs nginx no more CPU than one that is served (100,000 of each).
import { readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { startStand } from './stand.ts'

const REQUESTS = 100_000
const PIPELINED = 50
/** What is measured is well below 1; the rest is for a machine that does other things too. */
const RATIO_MAX = 1.2

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
      if (asked < REQUESTS) batch()
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
    const stand = await startStand(t)
    stand.plain('demo.test', '1 up h1 demo -\n')
    // As the gateway writes it where there are wildcards of two and of three labels.
    rmSync(join(stand.runDir, 'routes/.mark'))
    stand.plain('.mark', `1\n${'.'.repeat(0b110)}`)
    const nginx = await startNginx(t, { runDir: stand.runDir, binary, http: 'keepalive_requests 1000000;' })
    const worker = Number(/start worker process (\d+)/.exec(nginx.logs())?.[1])
    const costs = async (hosts: (index: number) => string, status: number): Promise<number> => {
      const before = ticks(worker)
      await ask(nginx.port, hosts, status)
      return ticks(worker) - before
    }
    const served = await costs(() => 'demo.test', 200)
    // Names of five parents: the most that is asked of the file system.
    const unknown = await costs((index) => `n${String(index)}.e.d.c.b.a.test`, 404)
    t.comment(`CPU of nginx for ${String(REQUESTS)} requests: served ${String(served * 10)} ms, unknown ${String(unknown * 10)} ms`)
    t.ok(unknown <= served * RATIO_MAX, `unknown ${String(unknown)} ticks, served ${String(served)}`)
  })
}

// Many agents in one process, by the agent library: each join string that comes on a line of standard input becomes one. Says `ready` when all serve.
import { createInterface } from 'node:readline'
import { Agent } from '../agent/agent.ts'
import { processEnvironment } from '../agent/environment.ts'
import { parseTarget } from '../agent/target.ts'
import { decodeJoin } from '../protocol/join.ts'

let waiting = 0
let all = false

const ready = (): void => {
  if (all && waiting === 0) process.stdout.write('ready\n')
}

for await (const line of createInterface({ input: process.stdin })) {
  waiting++
  const agent = new Agent({
    join: decodeJoin(line),
    services: { every: { target: parseTarget('9', process.platform), hostHeader: undefined, verifyTls: true } },
    environment: processEnvironment(),
    userAgent: 'postern/crowd',
    onEvent: ({ event }) => {
      if (event !== 'serving') return
      waiting--
      ready()
    },
  })
  await agent.start()
}
all = true
ready()
setInterval(() => undefined, 2 ** 30)

// Many agents in one process, by the agent library: each join string that comes on a line of standard input becomes one, by the kind of channel that is its argument. Says `ready` when all serve.
import { createInterface } from 'node:readline'
import { Agent } from '../agent/agent.ts'
import { listCandidates } from '../agent/candidates.ts'
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
  const join = decodeJoin(line)
  const agent = new Agent({
    join,
    candidates: listCandidates({ gateway: join.url, channel: process.argv[2] }, {}),
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

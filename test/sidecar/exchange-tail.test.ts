// Following exchanges: of what comes only they are printed, in columns that hold, and what was left out is said beside them.
import t from 'tap'
import { type Command, readCommand } from '../../sidecar/command.ts'
import type { Control } from '../../sidecar/control-client.ts'
import { followExchanges } from '../../sidecar/exchange-tail.ts'
import { RefusedError } from '../../sidecar/told.ts'

const exchange = (more: object): object => ({
  at: '2026-11-26T12:00:00.000Z', uuid: '0'.repeat(32), service: 'demo', agent: 'web-1', method: 'GET', path: '/', status: 200, error: null, total_ms: 1, ...more,
})

interface Followed {
  readonly printed: readonly string[]
  readonly remarks: readonly string[]
  readonly paths: readonly string[]
  /** Events that were taken. */
  readonly taken: number
}

/** Follows a feed of these events; whoever reads leaves after so many prints. */
async function followed(line: string, events: readonly (readonly [string, object])[], { status = 200, body = {}, prints = Infinity } = {}): Promise<Followed> {
  const printed: string[] = []
  const remarks: string[] = []
  const paths: string[] = []
  let taken = 0
  const control = {
    follow: async (path: string, take: (event: string, data: unknown) => Promise<boolean>) => {
      paths.push(path)
      for (const [event, data] of events) {
        taken++
        if (!(await take(event, data))) break
      }
      return { status, body, headers: {} }
    },
  } as unknown as Control
  const print = (text: string): Promise<boolean> => Promise.resolve(printed.push(text) < prints)
  await followExchanges(control, readCommand(['exchanges', 'list', '--follow', ...line.split(' ').filter(Boolean)]) as Command, { print, remark: (text) => void remarks.push(text) })
  return { printed, remarks, paths, taken }
}

t.test('a table has its head with the first row, and no path from outside moves a terminal or all that follows', async (t) => {
  const paths = ['/', '/longer', '/\u001b[31m\n', `/${'x'.repeat(500)}`, '/']
  const { printed } = await followed('', [['session_began', { id: 1 }], ...paths.map((path) => ['exchange', exchange({ path })] as const)])
  t.equal(printed.length, paths.length)
  const lines = printed.join('').split('\n')
  t.equal(lines.length, 1 + paths.length + 1)
  t.match(lines[0], /^AT +SERVICE +AGENT +METHOD +PATH +STATUS +ERROR +TOOK +UUID$/)
  t.match(lines[3], /\/\?\[31m\? /)
  t.ok(lines[4]!.length > 500, 'the long path is there')
  t.ok(lines[5]!.length < 200, 'and what follows is as wide as people read')
})

t.test('as JSON it is a line for each exchange, and what was left out is said beside them', async (t) => {
  const one = exchange({ path: '/a' })
  const { printed, remarks } = await followed('--json', [['exchange', one], ['exchanges_left_out', { count: 7 }], ['exchange', one]])
  t.same(printed, [`${JSON.stringify(one)}\n`, `${JSON.stringify(one)}\n`])
  t.same(remarks, ['exchanges that were not taken in time are left out: 7\n'])
})

t.test('it asks for those that are wanted, and leaves when nobody reads', async (t) => {
  const events = Array.from({ length: 5 }, () => ['exchange', exchange({})] as const)
  const { paths, taken } = await followed('--of shop --agent a+b --error agent_lost', events, { prints: 2 })
  t.same(paths, ['/v1/events?exchanges=true&service=shop&agent=a%2Bb&error=agent_lost'])
  t.equal(taken, 2)
})

t.test('what the gateway refuses is said', async (t) => {
  await t.rejects(followed('', [], { status: 503, body: { detail: '64 feeds are open, and that is the most' } }), new RefusedError('64 feeds are open, and that is the most'))
})

// The figures of an agent's process, asked of the agent when somebody asks here.
import { type Desk, known } from './control-desk.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { sessionId } from './control-schemas.ts'
import { count, named, quantity, record, text } from './schema-parts.ts'
import type { TypeOf } from './schema-type.ts'

const figures = named('Figures', record({
  version: text({ description: 'the agent’s name and version' }),
  node: text({ description: 'the version of its Node' }),
  uptime_s: quantity(),
  rss_bytes: count('all that its process occupies'),
  heap_bytes: count('in use'),
  cpu_s: quantity({ description: 'of one core, since it began' }),
  loop_delay_ms: quantity({ description: 'how late its event loop was just now' }),
  exchanges: count('in flight'),
  served: count('exchanges that are over, since it began'),
  failed: count('of these, for the origin’s sake'),
  sent_bytes: count('of this session, to the gateway'),
  received_bytes: count('of this session, from the gateway'),
}))
export type FiguresShown = TypeOf<typeof figures>

const FAILURES = {
  refused: () => new Problem(503, 'no_figures', 'the agent does not tell its figures'),
  silent: () => new Problem(504, 'agent_silent', 'the agent did not tell its figures in time'),
  leaving: () => new Problem(503, 'session_leaving', 'the session takes nothing new any more'),
}

export function figureOperations({ live }: Desk): Operation[] {
  return [
    operation({
      id: 'readFigures', method: 'GET', path: '/v1/sessions/:id/figures', scope: 'read',
      about: 'What the agent of a session tells of its process, asked at this moment. 503: it does not, or the session is leaving. 504: it did not in time.',
      params: record({ id: sessionId }), answers: { 200: figures },
      handle: async ({ params: { id } }) => {
        const reading = known(await live.figures(id), `session ${id}`)
        if ('failed' in reading) throw FAILURES[reading.failed]()
        return { status: 200, body: reading.figures }
      },
    }),
  ]
}

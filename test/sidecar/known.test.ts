// The directory in memory: which services an agent may serve by its labels, what is set for it, and who is told of which change.
import t from 'tap'
import type { AgentEntry, ServiceEntry } from '../../sidecar/directory.ts'
import { Known } from '../../sidecar/known.ts'

const agent = (id: string, services: string[], labels: string[] = [], settings: AgentEntry['settings'] = {}): AgentEntry => ({ id, record: 'r', services, labels, settings })
const service = (name: string, labels: string[] = []): ServiceEntry => ({ name, hosts: [`${name}.test`], prefixes: ['/'], conceal: false, trailers: false, labels })

function heard(known: Known): string[] {
  const told: string[] = []
  known.listen({
    agentChanged: (id, entry) => void told.push(`agent ${id}: ${entry === undefined ? 'gone' : `${entry.services.join(' ')} ${JSON.stringify(entry.settings)}`}`),
    servicesChanged: (changes) => void told.push(...changes.map(({ name, entry }) => `service ${name}${entry === undefined ? ': gone' : ''}`)),
  })
  return told
}

t.test('an agent serves those it is named for, and those all of whose labels it has', (t) => {
  const known = new Known([agent('a', ['x'], ['l', 'm']), agent('b', [], ['l'])], [service('x'), service('y', ['l']), service('z', ['m', 'l']), service('w', ['n'])])
  t.same(known.agent('a')?.services, ['x', 'y', 'z'])
  t.same(known.agent('b')?.services, ['y'])
  known.apply({ agent: 'b', entry: agent('b', [], ['l', 'm', 'n']) })
  t.same(known.agent('b')?.services, ['y', 'z', 'w'])
  t.end()
})

t.test('whoever gains or loses a service by its labels is told, after the service, and nobody else', (t) => {
  const known = new Known([agent('a', [], ['l']), agent('b', ['x'], ['m']), agent('c', ['x'])], [service('x')])
  const told = heard(known)
  known.apply({ services: [{ name: 'y', entry: service('y', ['l']) }] })
  t.same(told.splice(0), ['service y', 'agent a: y {}'])
  known.apply({ services: [{ name: 'y', entry: service('y', ['m']) }] })
  t.same(told.splice(0), ['service y', 'agent a:  {}', 'agent b: x y {}'])
  known.apply({ services: [{ name: 'y', entry: { ...service('y', ['m']), conceal: true } }] })
  t.same(told.splice(0), ['service y'], 'the same labels')
  known.apply({ services: [{ name: 'x', entry: service('x', ['l', 'm']) }] })
  t.same(told.splice(0), ['service x'], 'who is named for it serves it all the same')
  known.apply({ services: [{ name: 'y', entry: undefined }] })
  t.same(told.splice(0), ['service y: gone', 'agent b: x {}'])
  known.apply({ agent: 'a', entry: undefined })
  t.same(told.splice(0), ['agent a: gone'])
  known.apply({ services: [{ name: 'z', entry: service('z', ['l']) }] })
  t.same(told, ['service z'], 'an agent that is gone is told nothing')
  t.end()
})

t.test('an agent’s own settings go before those of all', (t) => {
  const known = new Known([agent('a', [], [], { connections: 4 }), agent('b', [])], [], { connections: 2, grace_ms: 5 })
  t.same(known.agent('a')?.settings, { connections: 4, grace_ms: 5 })
  const told = heard(known)
  known.apply({ settings: { connections: 3, grace_ms: 5 } })
  t.same(told, ['agent b:  {"connections":3,"grace_ms":5}'], 'only where something changed')
  t.end()
})

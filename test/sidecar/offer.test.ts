// What an agent is offered at its login: what is set for it over the gateway's own, and nothing that would keep it out or have it taken for dead.
import t from 'tap'
import { type Configured, offer } from '../../sidecar/offer.ts'
import { until } from '../harness/until.ts'
import { startAgent } from '../harness/agent.ts'
import { startGateway } from '../harness/gateway.ts'
import { startNginx } from '../harness/nginx.ts'
import { ask } from './control-socket.ts'

const OWN: Configured = {
  policy: 'always',
  lanes: 4,
  settings: { firstCredit: 65_536, maxStreams: 4_096 },
  channels: ['websocket', 'sse', 'tcp'],
  environment: { times: { heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 } },
}
const NOTHING = { channels: undefined, connections: undefined, tls: undefined }
const BOTH = { policies: ['always', 'never'] } as const

t.test('where nothing is set the gateway’s own counts', (t) => {
  t.same(offer(BOTH, OWN, {}, []), {
    policy: 'always',
    lanes: 4,
    settings: OWN.settings,
    terms: { services: [], heartbeat_ms: 10_000, dead_after_ms: 25_000, grace_ms: 30_000, channels: ['websocket', 'sse', 'tcp'], settings: { ...NOTHING, heartbeat_ms: 10_000, dead_after_ms: 25_000, grace_ms: 30_000, encryption: 'always' } },
  })
  t.end()
})

t.test('what is set counts', (t) => {
  const set = { heartbeat_ms: 500, dead_after_ms: 2_000, grace_ms: 0, encryption: 'never', streams_max_count: 7, first_credit_bytes: 16_384, channels: ['sse', 'pipe'] } as const
  t.same(offer(BOTH, OWN, set, []), {
    policy: 'never',
    lanes: 4,
    settings: { firstCredit: 16_384, maxStreams: 7 },
    terms: { services: [], heartbeat_ms: 500, dead_after_ms: 2_000, grace_ms: 0, channels: ['sse'], settings: { ...NOTHING, channels: ['sse', 'pipe'], heartbeat_ms: 500, dead_after_ms: 2_000, grace_ms: 0, encryption: 'never' } },
  })
  t.equal(offer({ policies: ['always'] }, OWN, set, []).policy, 'always', 'who takes nothing unsealed is let in all the same')
  t.equal(offer(BOTH, { ...OWN, policy: 'never' }, { encryption: 'always' }, []).policy, 'always')
  t.equal(offer(BOTH, OWN, { heartbeat_ms: 60_000 }, []).terms.dead_after_ms, 120_000, 'no beat is slower than death')
  t.end()
})

t.test('both ends of a session keep the times that were set for its agent', async (t) => {
  const gateway = await startGateway(t)
  const nginx = await startNginx(t, { runDir: gateway.runDir })
  const join = await gateway.addAgent('a', 'demo', 'demo.test', nginx.url)
  await gateway.command('agents', 'set', 'a', '--setting', 'grace_ms=100')
  const agent = await startAgent(t, { join, target: 1 })
  // The gateway's own grace is 30 s: until() would not wait for that.
  agent.signal('SIGKILL')
  await until('the gateway gave it up', async () => ((await ask(gateway.runDir, 'GET', '/v1/sessions')).json.items as unknown[]).length === 0)
  t.match(await until('it is said', () => gateway.events.find(({ event }) => event === 'session_ended')), { agent: 'a', code: 'agent_lost' })
})

// The resource of agents: who may come in, with which secret, and what each may serve.
import { encodeJoin } from '../protocol/join.ts'
import { publicKey, register } from '../protocol/opaque.ts'
import { checkMatch, type Desk, etagOf, known, limitOf, moment, pageOf, stateOf } from './control-desk.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { agent as agentSchema, agentChange, agentCreate, agentId, agentRotate, type AgentShown, agentWithJoin, page, pageQuery, serviceName } from './control-schemas.ts'
import { record } from './schema-parts.ts'
import { isGatewayUrl } from './settings.ts'
import { settingFaults } from './control-settings.ts'
import { withKey, withoutKey } from './control-tls.ts'
import type { StoredAgent } from './store-agents.ts'

/** 256 bits: nobody chooses or guesses it. */
const SECRET_BYTES = 32
const params = record({ id: agentId })
/** What is shown once is nobody's to keep. */
const ONCE = { 'Cache-Control': 'no-store' }

export function agentOperations(desk: Desk): Operation[] {
  const { store } = desk
  const shown = (agent: StoredAgent): AgentShown => agentShown(agent, desk.now())
  const find = (id: string): StoredAgent => known(store.agents.one(id), `agent ${id}`)
  const tagged = (agent: StoredAgent): { status: 200; body: AgentShown; headers: Record<string, string> } => ({ status: 200, body: shown(agent), headers: { ETag: etagOf(shown(agent)) } })

  return [
    operation({
      id: 'listAgents', method: 'GET', path: '/v1/agents', scope: 'read', about: 'The agents, by id.',
      query: record({}, { ...pageQuery, service: serviceName }), answers: { 200: page(agentSchema) },
      handle: ({ query }) => {
        const limit = limitOf(query)
        return { status: 200, body: pageOf(store.agents.page(query.after ?? '', limit + 1, query.service).map(shown), limit, ({ id }) => id) }
      },
    }),
    operation({
      id: 'createAgent', method: 'POST', path: '/v1/agents', scope: 'agents', about: 'Makes an agent, and shows its join string this once.',
      body: agentCreate, answers: { 201: agentWithJoin }, creates: true,
      handle: (asked) => desk.create(asked, async (remember) => {
        const { url, id, ...body } = asked.body
        const at = joinUrl(desk, url)
        if (store.agents.one(id) !== undefined) throw new Problem(409, 'exists', `there is an agent ${id} already`, [{ field: 'id', reason: 'in use' }])
        const made = newSecret(desk, id, at)
        const agent = checkedAgent(desk, changedAgent(freshAgent(id, made.record, desk.now()), body))
        desk.change(asked.who, { kind: 'agent_created', subject: `agents/${id}`, detail: told(body) }, () => {
          store.agents.put(agent)
          remember()
        })
        await desk.publishAgent(id, agent)
        return { status: 201, body: { ...shown(agent), join: made.join }, headers: { Location: `/v1/agents/${id}`, ETag: etagOf(shown(agent)), ...ONCE } }
      }),
    }),
    operation({
      id: 'readAgent', method: 'GET', path: '/v1/agents/:id', scope: 'read', about: 'One agent.', params, answers: { 200: agentSchema },
      handle: ({ params: { id } }) => tagged(find(id)),
    }),
    operation({
      id: 'changeAgent', method: 'PATCH', path: '/v1/agents/:id', scope: 'agents', about: 'Changes what is said of an agent; what is not said stays.',
      params, body: agentChange, answers: { 200: agentSchema }, edits: 'must',
      handle: async ({ params: { id }, body, who, request }) => {
        const before = find(id)
        checkMatch(request, shown(before), 'must')
        const agent = checkedAgent(desk, changedAgent(before, body))
        desk.change(who, { kind: 'agent_changed', subject: `agents/${id}`, detail: told(body) }, () => store.agents.put(agent))
        await desk.publishAgent(id, agent)
        return tagged(agent)
      },
    }),
    operation({
      id: 'rotateAgent', method: 'POST', path: '/v1/agents/:id/rotate', scope: 'agents', about: 'Gives an agent a new secret, shown this once. What came in with the old one is ended.',
      params, body: agentRotate, answers: { 200: agentWithJoin }, creates: true,
      handle: (asked) => desk.create(asked, async (remember) => {
        const { id } = asked.params
        const before = find(id)
        const made = newSecret(desk, id, joinUrl(desk, asked.body.url))
        const agent = { ...before, record: made.record, revoked: false, rotatedAt: desk.now() }
        desk.change(asked.who, { kind: 'agent_rotated', subject: `agents/${id}` }, () => {
          store.agents.put(agent)
          remember()
        })
        await desk.publishAgent(id, agent)
        return { status: 200, body: { ...shown(agent), join: made.join }, headers: { ETag: etagOf(shown(agent)), ...ONCE } }
      }),
    }),
    operation({
      id: 'revokeAgent', method: 'POST', path: '/v1/agents/:id/revoke', scope: 'agents', about: 'Makes an agent’s secret worthless and ends its sessions; only a new secret lets it in again.',
      params, body: record({}), answers: { 200: agentSchema },
      handle: async ({ params: { id }, who }) => {
        const agent = { ...find(id), revoked: true }
        desk.change(who, { kind: 'agent_revoked', subject: `agents/${id}` }, () => store.agents.put(agent))
        await desk.publishAgent(id, agent)
        return tagged(agent)
      },
    }),
    operation({
      id: 'deleteAgent', method: 'DELETE', path: '/v1/agents/:id', scope: 'agents', about: 'Removes an agent and ends its sessions.', params, answers: { 204: null }, edits: 'may',
      handle: async ({ params: { id }, who, request }) => {
        checkMatch(request, shown(find(id)), 'may')
        desk.change(who, { kind: 'agent_deleted', subject: `agents/${id}` }, () => store.agents.remove(id))
        await desk.publishAgent(id, undefined)
        return { status: 204 }
      },
    }),
  ]
}

type Fields = Partial<Pick<AgentShown, 'services' | 'labels' | 'settings' | 'disabled' | 'expires_at'>>

/** What was said, as the history may keep it. */
export const told = (body: Fields): Record<string, unknown> => ({ ...body, ...(body.settings === undefined ? {} : { settings: withoutKey(body.settings) }) })

/** As everybody who may read sees it: the record proves the secret, and is nobody's to see. */
export function agentShown(agent: StoredAgent, now: number): AgentShown {
  const { id, services, labels, settings, disabled, expiresAt, createdAt, rotatedAt } = agent
  return {
    id, services, labels, settings: withoutKey(settings), disabled, expires_at: moment(expiresAt), state: stateOf(agent, now), created_at: moment(createdAt), rotated_at: moment(rotatedAt),
  }
}

/** Where an agent is to find the gateway. Throws a Problem if nobody said. */
export function joinUrl({ options }: Desk, said: string | undefined): string {
  const at = said ?? options.publicUrl
  if (said !== undefined && !isGatewayUrl(said)) throw new Problem(400, 'invalid', `${JSON.stringify(said)} is no URL`, [{ field: 'url', reason: 'no URL' }])
  if (at !== undefined) return at
  const faults = [{ field: 'url', reason: 'needed as long as public_url is not set' }]
  throw new Problem(409, 'no_url', 'the gateway does not know where agents find it: set public_url, or say url', faults)
}

export interface NewSecret {
  readonly record: string
  readonly join: string
}

export function newSecret({ options }: Desk, id: string, url: string): NewSecret {
  const secret = options.random(SECRET_BYTES).toString('base64url')
  return { record: register(options.serverSetup, id, secret), join: encodeJoin({ url, id, secret, key: publicKey(options.serverSetup) }) }
}

export function freshAgent(id: string, record: string, now: number): StoredAgent {
  return { id, record, services: [], labels: [], settings: {}, disabled: false, revoked: false, expiresAt: null, createdAt: now, rotatedAt: null }
}

/** Throws a Problem for what can not be, beside the services in the store. */
export function checkedAgent({ store }: Desk, agent: StoredAgent): StoredAgent {
  const faults = agent.services.filter((name) => store.services.one(name) === undefined).map((name) => ({ field: 'services', reason: `there is no service ${name}` }))
  if (faults.length > 0) throw new Problem(409, 'unknown_service', faults.map(({ reason }) => reason).join('; '), faults)
  settingFaults(agent.settings, 'settings.')
  return agent
}

export function changedAgent(agent: StoredAgent, { services = agent.services, labels = agent.labels, settings = agent.settings, disabled = agent.disabled, expires_at }: Fields): StoredAgent {
  const expiresAt = expires_at === undefined ? agent.expiresAt : expires_at === null ? null : Date.parse(expires_at)
  // As the store gives them back: what is shown, and its ETag, do not depend on the order in which they were said.
  return { ...agent, services: [...services].sort(), labels, settings: withKey(settings, agent.settings), disabled, expiresAt }
}

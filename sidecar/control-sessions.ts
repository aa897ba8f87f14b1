// What is live: the sessions and their channels, which can be ended, the routes that are published, and whether the gateway is ready.
import { type Desk, known, limitOf, moment, pageOf } from './control-desk.ts'
import type { LiveSession } from './control-live.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { agentId, health, page, pageQuery, ready, route, session as sessionSchema, sessionId, type SessionShown } from './control-schemas.ts'
import { record, text } from './schema-parts.ts'

const params = record({ id: sessionId })
const channelParams = record({ id: sessionId, channel: text({ pattern: '^(?:0|[1-9][0-9]?)$', description: 'its place in the session’s list, from 0' }) })

export function liveOperations(desk: Desk): Operation[] {
  const { store, live, options } = desk
  const shown = (session: LiveSession): SessionShown => ({ ...session, since: moment(Math.round(desk.now() - session.age_s * 1_000))! })

  return [
    operation({
      id: 'readHealth', method: 'GET', path: '/v1/health', scope: 'read', about: 'The control server answers.', answers: { 200: health },
      handle: () => ({ status: 200, body: { status: 'ok', version: options.version } }),
    }),
    operation({
      id: 'readReady', method: 'GET', path: '/v1/ready', scope: 'read', about: 'Can visitors come? 503 says why not.', answers: { 200: ready, 503: ready },
      handle: async () => {
        const body = await live.ready()
        return { status: body.ready ? 200 : 503, body }
      },
    }),
    operation({
      id: 'listSessions', method: 'GET', path: '/v1/sessions', scope: 'read', about: 'Who is connected, the oldest first.',
      query: record({}, { ...pageQuery, agent: agentId }), answers: { 200: page(sessionSchema) },
      handle: async ({ query }) => {
        const { items, next } = await live.sessions({ after: query.after ?? '', limit: limitOf(query), agent: query.agent })
        return { status: 200, body: { items: items.map(shown), next } }
      },
    }),
    operation({
      id: 'readSession', method: 'GET', path: '/v1/sessions/:id', scope: 'read', about: 'One session.', params, answers: { 200: sessionSchema },
      handle: async ({ params: { id } }) => ({ status: 200, body: shown(known(await live.session(id), `session ${id}`)) }),
    }),
    operation({
      id: 'disconnectSession', method: 'DELETE', path: '/v1/sessions/:id', scope: 'agents',
      about: 'Ends a session. Its agent may come again: to keep it out, disable or revoke it.', params, answers: { 204: null },
      handle: async ({ params: { id }, who }) => {
        const { agent } = known(await live.session(id), `session ${id}`)
        desk.change(who, { kind: 'session_disconnected', subject: `agents/${agent}`, detail: { session: id } }, () => undefined)
        if (!(await live.disconnect(id))) throw new Problem(404, 'not_found', `session ${id} is over`)
        return { status: 204 }
      },
    }),
    operation({
      id: 'disconnectChannel', method: 'DELETE', path: '/v1/sessions/:id/channels/:channel', scope: 'agents',
      about: 'Ends one channel of a session; the session lives on over another.', params: channelParams, answers: { 204: null },
      handle: async ({ params: { id, channel }, who }) => {
        const { agent } = known(await live.session(id), `session ${id}`)
        if (!(await live.cut(id, Number(channel)))) throw new Problem(404, 'not_found', `session ${id} has no channel ${channel}`)
        desk.change(who, { kind: 'channel_disconnected', subject: `agents/${agent}`, detail: { session: id, channel: Number(channel) } }, () => undefined)
        return { status: 204 }
      },
    }),
    operation({
      id: 'listRoutes', method: 'GET', path: '/v1/routes', scope: 'read',
      about: 'What is published: places by hostname and prefix, and whether somebody serves them.', query: record({}, pageQuery), answers: { 200: page(route) },
      handle: async ({ query }) => {
        const limit = limitOf(query)
        // A hostname holds no slash, and a prefix begins with one.
        const [, host = '', prefix = ''] = /^([^/]*)(\/.*)?$/s.exec(query.after ?? '') ?? []
        const { items, next } = pageOf(store.services.places(host, prefix, limit + 1), limit, (place) => place.host + place.prefix)
        const presence = await live.presence(items.map(({ service }) => service))
        const isOff = (service: string): boolean => store.services.one(service)?.policy.state === 'off'
        return { status: 200, body: { items: items.map((place, i) => ({ ...place, state: isOff(place.service) ? 'off' : presence[i] })), next } }
      },
    }),
  ]
}

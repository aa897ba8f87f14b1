// The resource of services: what is published where, who may serve it, under which policy. One place of one hostname belongs to one service.
import { checkMatch, type Desk, etagOf, known, limitOf, moment, pageOf } from './control-desk.ts'
import { type Operation, operation, type Said } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { page, pageQuery, service as serviceSchema, serviceChange, serviceName, servicePut, type ServiceShown } from './control-schemas.ts'
import { policyFaults } from './policy.ts'
import { isHost, PREFIXES_MAX_COUNT } from './routes.ts'
import { record } from './schema-parts.ts'
import type { StoredService } from './store-services.ts'

const params = record({ name: serviceName })
/** Agents that are named in the refusal to remove a service. */
const USERS_SHOWN_COUNT = 10

export const serviceShown = ({ createdAt, ...service }: StoredService): ServiceShown => ({ ...service, created_at: moment(createdAt) })
const tagged = (service: StoredService, status = 200): Said => ({ status, body: serviceShown(service), headers: { ETag: etagOf(serviceShown(service)) } })

export function serviceOperations(desk: Desk): Operation[] {
  const { store } = desk
  const put = async (service: StoredService, created: boolean, who: Parameters<Desk['change']>[0]): Promise<Said> => {
    checkService(desk, service)
    const { name, createdAt: _createdAt, ...detail } = service
    desk.change(who, { kind: created ? 'service_created' : 'service_changed', subject: `services/${name}`, detail }, () => store.services.put(service))
    await desk.publishServices([{ name, after: service }])
    return tagged(service, created ? 201 : 200)
  }

  return [
    operation({
      id: 'listServices', method: 'GET', path: '/v1/services', scope: 'read', about: 'The services, by name.', query: record({}, pageQuery), answers: { 200: page(serviceSchema) },
      handle: ({ query }) => {
        const limit = limitOf(query)
        return { status: 200, body: pageOf(store.services.page(query.after ?? '', limit + 1).map(serviceShown), limit, ({ name }) => name) }
      },
    }),
    operation({
      id: 'readService', method: 'GET', path: '/v1/services/:name', scope: 'read', about: 'One service.', params, answers: { 200: serviceSchema },
      handle: ({ params: { name } }) => tagged(known(store.services.one(name), `service ${name}`)),
    }),
    operation({
      id: 'putService', method: 'PUT', path: '/v1/services/:name', scope: 'services', about: 'Makes a service, or makes it this; what is not said is as if it were new.',
      params, body: servicePut, answers: { 200: serviceSchema, 201: serviceSchema }, edits: 'must',
      handle: ({ params: { name }, body, who, request }) => {
        const before = store.services.one(name)
        checkMatch(request, before === undefined ? undefined : serviceShown(before), 'must')
        return put(serviceAsSaid(desk, name, body, before), before === undefined, who)
      },
    }),
    operation({
      id: 'changeService', method: 'PATCH', path: '/v1/services/:name', scope: 'services', about: 'Changes what is said of a service; what is not said stays.',
      params, body: serviceChange, answers: { 200: serviceSchema }, edits: 'must',
      handle: ({ params: { name }, body, who, request }) => {
        const before = known(store.services.one(name), `service ${name}`)
        checkMatch(request, serviceShown(before), 'must')
        return put(changed(before, body), false, who)
      },
    }),
    operation({
      id: 'deleteService', method: 'DELETE', path: '/v1/services/:name', scope: 'services', about: 'Removes a service that no agent is named for.', params, answers: { 204: null }, edits: 'may',
      handle: async ({ params: { name }, who, request }) => {
        checkMatch(request, serviceShown(known(store.services.one(name), `service ${name}`)), 'may')
        checkUnused(desk, name)
        desk.change(who, { kind: 'service_deleted', subject: `services/${name}` }, () => store.services.remove(name))
        await desk.publishServices([{ name, after: undefined }])
        return { status: 204 }
      },
    }),
  ]
}

/** A service of which all is said that differs from a new one. */
export function serviceAsSaid(desk: Desk, name: string, said: Fields, before: StoredService | undefined): StoredService {
  const createdAt = before === undefined ? desk.now() : before.createdAt
  return changed({ name, hosts: [], prefixes: ['/'], conceal: false, trailers: false, labels: [], origin: null, policy: {}, createdAt }, said)
}

/** Throws a Problem while an agent is named for it. */
export function checkUnused({ store }: Desk, name: string): void {
  const users = store.agents.namedFor(name, USERS_SHOWN_COUNT)
  if (users.length > 0) throw new Problem(409, 'in_use', `agents may serve it: ${users.join(', ')}`)
}

type Fields = Partial<Omit<ServiceShown, 'name' | 'created_at'>>

function changed(service: StoredService, fields: Fields): StoredService {
  return { ...service, ...fields, hosts: [...new Set((fields.hosts ?? service.hosts).map((host) => host.toLowerCase()))] }
}

/** Throws a Problem for what can not be, beside the other services in the store. */
export function checkService(desk: Desk, service: StoredService): void {
  const { hosts, policy } = service
  const faults = hosts.filter((host) => !isHost(host)).map((host) => ({ field: 'hosts', reason: `${JSON.stringify(host)} is no hostname, nor a wildcard like +.example.com` }))
  for (const { field, reason } of policyFaults(policy)) faults.push({ field: `policy.${field}`, reason })
  if (faults.length > 0) throw new Problem(400, 'invalid', faults.map(({ reason }) => reason).join('; '), faults)
  for (const host of hosts) {
    if (desk.options.controlHosts.some((one) => covers(host, one))) throw taken(host, `the control server is served on a hostname of its own, and ${host} would publish it`)
    checkPlaces(desk, service, host)
  }
}

/** Is `host`, perhaps a wildcard, or does it hold, the hostname `one`? */
export const covers = (host: string, one: string): boolean => host === one || (host.startsWith('+.') && one.endsWith(host.slice(1)))

const taken = (host: string, detail: string): Problem => new Problem(409, 'taken', detail, [{ field: 'hosts', reason: `${host} is taken` }])

/** One place of one hostname belongs to one service, and a hostname has so many places as nginx reads. */
function checkPlaces({ store }: Desk, { name, prefixes }: StoredService, host: string): void {
  const others = store.services.placesOf(host).filter(({ service }) => service !== name)
  const other = others.find(({ prefix }) => prefixes.includes(prefix))
  if (other !== undefined) throw taken(`${host}${other.prefix}`, `${host}${other.prefix} belongs to service ${other.service}`)
  const count = others.length + prefixes.length
  if (count <= PREFIXES_MAX_COUNT) return
  const reason = `${host} would have ${String(count)} prefixes, and ${String(PREFIXES_MAX_COUNT)} is the most`
  throw new Problem(409, 'too_many_prefixes', reason, [{ field: 'prefixes', reason }])
}

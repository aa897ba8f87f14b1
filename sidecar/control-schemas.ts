// What the control server's resources take, as JSON schemas: every field by its type, its alphabet and its bound, and none beside them.
import { AGENT_ID_MAX_BYTES } from '../protocol/limits.ts'
import { PREFIXES_MAX_COUNT } from './routes.ts'
import { GATEWAY_URL } from './settings.ts'

const HOSTS_MAX_COUNT = 256
const NAME = '^[a-z0-9][a-z0-9-]{0,62}$'
const AGENT_ID = '^[A-Za-z0-9][A-Za-z0-9._-]*$'
/** Bytes that mean themselves to nginx and origin alike: no `%`, no empty segment, no dot segment, which one reads as nginx writes them and another does not. */
const PREFIX = "^(?:/|(?:/(?!\\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()*+,;=:@-]+)+)$"

const agentId = { type: 'string', pattern: AGENT_ID, maxLength: AGENT_ID_MAX_BYTES }
const serviceName = { type: 'string', pattern: NAME }
const serviceNames = { type: 'array', items: serviceName, uniqueItems: true, maxItems: 10_000 }
const url = { type: 'string', pattern: GATEWAY_URL.source, maxLength: 2_048 }
const object = (properties: Record<string, unknown>, required: string[] = []): Record<string, unknown> => ({ type: 'object', properties, required, additionalProperties: false })

export const schemas = {
  agentCreate: { body: object({ id: agentId, services: serviceNames, url }, ['id', 'services']) },
  agentChange: { params: object({ id: agentId }, ['id']), body: object({ services: serviceNames }, ['services']) },
  agent: { params: object({ id: agentId }, ['id']) },
  service: { params: object({ name: serviceName }, ['name']) },
  servicePut: {
    params: object({ name: serviceName }, ['name']),
    body: object(
      {
        hosts: { type: 'array', items: { type: 'string', maxLength: 255 }, minItems: 1, maxItems: HOSTS_MAX_COUNT, uniqueItems: true },
        prefixes: { type: 'array', items: { type: 'string', pattern: PREFIX, maxLength: 256 }, minItems: 1, maxItems: PREFIXES_MAX_COUNT, uniqueItems: true },
        conceal: { type: 'boolean' },
        trailers: { type: 'boolean' },
      },
      ['hosts'],
    ),
  },
  page: { querystring: object({ limit: { type: 'string', pattern: '^[1-9][0-9]{0,3}$' }, after: { type: 'string', maxLength: 255 } }) },
}

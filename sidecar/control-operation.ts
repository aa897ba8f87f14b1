// One operation of the control server: what it takes, who may ask, what it answers; the text from which it is checked, served and documented.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Access, Who } from './control-access.ts'
import { Problem } from './control-problem.ts'
import { problem, type Scope } from './control-schemas.ts'
import { record, text } from './schema-parts.ts'
import type { Schema, TypeOf } from './schema-type.ts'

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

export interface Asked<P, Q, B> {
  readonly params: P
  readonly query: Q
  readonly body: B
  readonly who: Who
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

export interface Said {
  readonly status: number
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export interface Operation {
  readonly id: string
  readonly method: Method
  /** As Fastify writes it: `/v1/agents/:id`. */
  readonly path: string
  /** Who may; null: anybody. A token with the scope `all` may everything, and each may read. */
  readonly scope: Scope | null
  readonly about: string
  readonly params?: Schema
  readonly query?: Schema
  readonly body?: Schema
  /** Instead of what the control server takes. */
  readonly bodyMaxBytes?: number
  /** What it answers when all is well, by status; null: nothing, a text: that media type. */
  readonly answers: Readonly<Record<number, Schema | null | string>>
  /** Does it change what may have been changed since it was read? `must`: If-Match is asked for. */
  readonly edits?: 'must' | 'may'
  /** Is it safe to ask again with the same Idempotency-Key? */
  readonly creates?: true
  handle(asked: Asked<never, never, never>): Said | Promise<Said>
}

type Typed<P extends Schema, Q extends Schema, B extends Schema> = Omit<Operation, 'handle' | 'params' | 'query' | 'body'> & {
  readonly params?: P
  readonly query?: Q
  readonly body?: B
  handle(asked: Asked<TypeOf<P>, TypeOf<Q>, TypeOf<B>>): Said | Promise<Said>
}

/** Lets the compiler take the types of what `handle` is given from the schemas. */
export const operation = <P extends Schema, Q extends Schema, B extends Schema>(typed: Typed<P, Q, B>): Operation => typed

const IF_MATCH = { 'if-match': text({ maxLength: 512, description: 'the ETag of what was read, or *' }) }
const IDEMPOTENCY_KEY = { 'idempotency-key': text({ pattern: '^[\\x21-\\x7e]{1,255}$', description: 'asked again with the same key, it answers the same and does nothing' }) }

/** Not in the document: what a resource does not take is no operation. */
const HIDDEN: object = { hide: true }
const PROBLEM = { description: 'What is wrong, and where.', content: { 'application/problem+json': { schema: problem } } }

/** Serves the operations. What a resource does not take is a 405 that says what it does. */
export function serve(app: FastifyInstance, operations: readonly Operation[], access: Access): void {
  const methods = new Map<string, string[]>()
  for (const one of operations) {
    methods.set(one.path, [...(methods.get(one.path) ?? []), one.method])
    app.route({
      method: one.method,
      url: one.path,
      schema: schemaOf(one),
      ...(one.bodyMaxBytes === undefined ? {} : { bodyLimit: one.bodyMaxBytes }),
      onRequest: (request, reply, done) => {
        access.check(request, reply, one.scope)
        done()
      },
      handler: async (request, reply) => {
        const asked = { params: request.params, query: request.query, body: request.body ?? {}, who: access.who(request), request, reply }
        const { status, body, headers } = await one.handle(asked as Asked<never, never, never>)
        if (reply.sent) return reply
        return reply.code(status).headers({ ...headers }).send(body)
      },
    })
  }
  for (const [url, allowed] of methods) {
    const others = app.supportedMethods.filter((method) => !allowed.includes(method))
    app.route({ method: others, url, schema: HIDDEN, handler: (request, reply) => {
      access.check(request, reply, 'read')
      reply.header('Allow', allowed.join(', '))
      throw new Problem(405, 'no_such_method', `${request.method} is not for ${request.url}: it takes ${allowed.join(', ')}`)
    } })
  }
}

function schemaOf(one: Operation): object {
  const answers = Object.entries(one.answers).map(([status, schema]) => {
    if (schema === null) return [status, { description: 'Done.', type: 'null' }]
    if (typeof schema === 'string') return [status, { description: 'As it says.', content: { [schema]: { schema: { type: 'string' } } } }]
    return [status, { description: 'As asked.', content: { 'application/json': { schema } } }]
  })
  const headers = { ...(one.edits === undefined ? {} : IF_MATCH), ...(one.creates === undefined ? {} : IDEMPOTENCY_KEY) }
  return {
    operationId: one.id,
    summary: one.about,
    tags: [one.path.split('/')[2] ?? ''],
    ...(one.scope === null ? { security: [] } : { description: `Scope: ${one.scope}.` }),
    ...(one.params === undefined ? {} : { params: one.params }),
    // Fastify takes no list of members for what is not said: an operation without a query takes none.
    querystring: one.query ?? record({}),
    ...(one.body === undefined ? {} : { body: one.body }),
    ...(Object.keys(headers).length === 0 ? {} : { headers: { type: 'object', properties: headers } }),
    response: { ...(Object.fromEntries(answers) as Readonly<Record<string, object>>), '4xx': PROBLEM, '5xx': PROBLEM },
  }
}

// The control server: its resources put together into one app that checks, serves and documents them. It listens nowhere itself.
import swagger from '@fastify/swagger'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import { Access } from './control-access.ts'
import { agentOperations } from './control-agents.ts'
import { applyOperations } from './control-apply.ts'
import { backupOperations } from './control-backup.ts'
import { credentialOperations } from './control-credentials.ts'
import { Desk, type DeskOptions } from './control-desk.ts'
import { figureOperations } from './control-figures.ts'
import { historyOperations } from './control-history.ts'
import { type Operation, operation, serve } from './control-operation.ts'
import { type OpenApi, PAGE_FIELDS, pageOf } from './control-page.ts'
import { answerError, Problem } from './control-problem.ts'
import { serviceOperations } from './control-services.ts'
import { liveOperations } from './control-sessions.ts'
import { settingOperations } from './control-settings.ts'
import { tokenOperations } from './control-tokens.ts'
import { anything, definitions } from './schema-parts.ts'

export interface ControlOptions extends DeskOptions {
  /** A fault of our own, for the log: whoever asked is told no more than that there was one. */
  onFault(error: Error): void
}

const BODY_MAX_BYTES = 1_048_576
const PARAMETER_MAX_BYTES = 255

export interface ControlApp {
  readonly app: FastifyInstance
  readonly desk: Desk
  readonly access: Access
}

export async function createControlApp(options: ControlOptions): Promise<ControlApp> {
  const desk = new Desk(options)
  const access = new Access({
    store: options.store,
    controlHosts: options.controlHosts,
    now: () => options.now(),
    onWrong: (source) => desk.change({ name: source, scopes: [] }, { kind: 'token_refused', subject: 'tokens' }, () => undefined),
  })
  const app = Fastify({
    bodyLimit: BODY_MAX_BYTES,
    routerOptions: { maxParamLength: PARAMETER_MAX_BYTES },
    exposeHeadRoutes: false,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, useDefaults: false, allErrors: true, strict: false } },
    // What is wrong before there is a resource, such as a `%` with nothing behind it in the path.
    frameworkErrors: (error, _request, reply) => void answerError(error, reply, options.onFault),
  })
  app.setErrorHandler((error: FastifyError, _request, reply) => answerError(error, reply, options.onFault))
  // Answers are made of what has the type of their schema: nothing is to be left out of them, and to compile a writer for each takes a command longer than all it does.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data))
  app.setNotFoundHandler((request, reply) => {
    access.check(request, reply, 'read')
    throw new Problem(404, 'not_found', `there is no ${request.url}`)
  })
  for (const [name, schema] of definitions) app.addSchema({ $id: name, ...schema })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Postern control server', version: '1', description: 'Agents, services, settings, sessions and history of a gateway.' },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
    refResolver: { buildLocalReference: ({ $id }) => (typeof $id === 'string' ? $id : 'Unnamed') },
  })
  let document: OpenApi | undefined
  const documented = (): OpenApi => (document ??= app.swagger() as unknown as OpenApi)
  const about: Operation[] = [
    operation({
      id: 'readOpenApi', method: 'GET', path: '/v1/openapi.json', scope: null, about: 'This document.', answers: { 200: anything('OpenAPI 3.1') },
      handle: () => ({ status: 200, body: documented() }),
    }),
    operation({
      id: 'readDocs', method: 'GET', path: '/v1/docs', scope: null, about: 'This document as a page.', answers: { 200: 'text/html' },
      handle: () => ({ status: 200, body: pageOf(documented()), headers: PAGE_FIELDS }),
    }),
  ]
  const resources = [
    agentOperations, serviceOperations, credentialOperations, settingOperations, applyOperations, liveOperations, figureOperations, historyOperations, tokenOperations, backupOperations,
  ]
  serve(app, [...resources.flatMap((operations) => operations(desk)), ...about], access)
  return { app, desk, access }
}

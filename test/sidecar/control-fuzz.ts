// Asks the control server of a real gateway whatever its own OpenAPI document lets one think of, right and wrong, and holds each answer against that document.
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import type { Test } from 'tap'
import { startGateway } from '../harness/gateway.ts'
import { Random } from '../protocol/simulation.ts'
import { ask } from './control-socket.ts'

export const HOST = 'admin.test'

interface Schema {
  readonly $ref?: string
  readonly anyOf?: readonly Schema[]
  readonly enum?: readonly unknown[]
  readonly type?: string
  readonly pattern?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly items?: Schema
  readonly minItems?: number
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly propertyNames?: Schema
}

interface Parameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required?: boolean
  readonly schema: Schema
}

export interface Documented {
  readonly id: string
  readonly method: string
  readonly path: string
  /** Null: anybody may. */
  readonly scope: string | null
  readonly parameters: readonly Parameter[]
  readonly body: Schema | undefined
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> }>>
}

export interface Answer {
  readonly status: number
  readonly type: string
  readonly text: string
}

type Document = {
  readonly openapi: string
  readonly paths: Readonly<Record<string, Readonly<Record<string, { operationId: string; description?: string; parameters?: Parameter[]; requestBody?: { content: Record<string, { schema: Schema }> }; responses: Documented['responses'] }>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

/** Texts of which some fit each pattern there is. */
const TEXTS = [
  'a', 'agent-1', 'shop', 'x=y', 'shop.test', '+.w.test', 'b.test', '/', '/a/b', '/.well-known', 'https://e.test', 'tls://e.test:443', 'unix:/x', '2030-01-01T00:00:00Z', '1999-12-31T23:59:59+02:00', '0', '1', '7', '100',
  'GET', 'POST', '10.0.0.0/8', '::1', 'f'.repeat(64), '0'.repeat(32), '0'.repeat(16), '-----BEGIN CERTIFICATE-----\n', 'admin', 'owner', 'agents/a', 'X-Field', '*', '"etag"', 'key-1', 'key-2',
]
const REFILL_QUESTIONS = 20
/** Of what is as right as chance makes it: one in ten goes well of what seldom does. */
const RIGHT_QUESTIONS = 400
const HOSTS = ['shop.test', '+.w.test', 'b.test', 'c.test', 'd.test', 'E.test']
const HOST_MAX_LENGTH = 255
const STRANGE: readonly unknown[] = [
  null, true, 0, -1, 1.5, 1e308, 2 ** 53, '', ' ', 'ä', '\u0000', '\u202e', 'x'.repeat(5_000), '../../etc/passwd', '%', "'; DROP TABLE agents; --", '__proto__', 'constructor', [], {}, [[]], { a: { b: {} } }, [null], 'NaN', '9'.repeat(400), '*.test', 'a..b',
]

export class Fuzzer {
  readonly operations: readonly Documented[]
  readonly random: Random
  private readonly document: Document
  private readonly ajv = new Ajv2020({ strict: false, validateFormats: false })
  private readonly validators = new Map<string, ValidateFunction>()
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 4 })
  private readonly socketPath: string

  constructor(document: Document, runDir: string, seed: number) {
    this.document = document
    this.random = new Random(seed)
    this.socketPath = join(runDir, 'admin.sock')
    this.ajv.addSchema({ $id: 'doc', components: document.components })
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, one]) => ({
      id: one.operationId,
      method: method.toUpperCase(),
      path,
      scope: /^Scope: (\w+)\.$/.exec(one.description ?? '')?.[1] ?? null,
      parameters: one.parameters ?? [],
      body: one.requestBody?.content['application/json']?.schema,
      responses: one.responses,
    })))
  }

  close(): void {
    this.agent.destroy()
  }

  pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)]!
  }

  resolve(schema: Schema): Schema {
    return schema.$ref === undefined ? schema : this.document.components.schemas[schema.$ref.split('/').at(-1)!]!
  }

  /** A value that the schema takes, or nearly: what only the server knows is not in it. */
  value(of: Schema): unknown {
    const schema = this.resolve(of)
    if (schema.anyOf !== undefined) return this.value(this.pick(schema.anyOf))
    if (schema.enum !== undefined) return this.pick(schema.enum)
    switch (schema.type) {
      case 'string': {
        const { pattern = '', minLength = 0, maxLength = 1_000 } = schema
        // What is a hostname the server says better than a pattern would.
        if (schema.pattern === undefined && maxLength === HOST_MAX_LENGTH && this.random.below(8) > 0) return this.pick(HOSTS)
        const fits = TEXTS.filter((text) => new RegExp(pattern, 'u').test(text) && text.length >= minLength && text.length <= maxLength)
        return fits.length === 0 ? 'x' : this.pick(fits)
      }
      case 'integer':
        return (schema.minimum ?? 0) + this.random.below(Math.min((schema.maximum ?? 100) - (schema.minimum ?? 0), 100) + 1)
      case 'number':
        return (schema.minimum ?? 0) + this.random.below(100) / 7
      case 'boolean':
        return this.random.below(2) === 1
      case 'null':
        return null
      case 'array': {
        const found = Array.from({ length: (schema.minItems ?? 0) + this.random.below(3) }, () => this.value(schema.items!))
        return [...new Map(found.map((one) => [JSON.stringify(one), one])).values()]
      }
      case 'object': {
        const { additionalProperties: member, propertyNames: names } = schema
        if (typeof member === 'object') return Object.fromEntries(Array.from({ length: this.random.below(3) }, () => [this.value({ type: 'string', ...names }), this.value(member)]))
        return Object.fromEntries(Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name) === true || this.random.below(3) === 0).map(([name, one]) => [name, this.value(one)]))
      }
      case undefined:
      default:
        return this.pick(STRANGE)
    }
  }

  /** The same with something in it that is perhaps wrong. */
  spoiled(value: unknown): unknown {
    if (typeof value !== 'object' || value === null || this.random.below(4) === 0) return this.pick(STRANGE)
    if (Array.isArray(value)) return value.length === 0 ? [this.pick(STRANGE)] : value.map((one: unknown, i) => (i === 0 ? this.spoiled(one) : one))
    const names = Object.keys(value)
    const copy: Record<string, unknown> = { ...value }
    const way = this.random.below(3)
    if (way === 0 || names.length === 0) copy[this.pick(['unknown', 'Id', '', 'toString'])] = this.pick(STRANGE)
    else if (way === 1) delete copy[this.pick(names)]
    else {
      const name = this.pick(names)
      copy[name] = this.spoiled(copy[name])
    }
    return copy
  }

  /** Asks by the socket for whoever has a token. */
  send(method: string, path: string, headers: Readonly<Record<string, string>>, payload: string | undefined): Promise<Answer> {
    const length = payload === undefined ? {} : { 'content-length': String(Buffer.byteLength(payload)) }
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.socketPath, agent: this.agent, method, path, headers: { host: HOST, ...length, ...headers } }, (response) => {
        const type = (response.headers['content-type'] ?? '').split(';')[0]!
        // The feed has no end.
        if (type === 'text/event-stream') {
          response.destroy()
          return resolve({ status: response.statusCode!, type, text: '' })
        }
        const parts: Buffer[] = []
        response.on('data', (part: Buffer) => parts.push(part))
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode!, type, text: Buffer.concat(parts).toString('utf8') }))
      })
      asked.on('error', reject)
      asked.end(payload)
    })
  }

  /** Asks for an operation with everything right, or, if it may be spoiled, with something wrong. */
  async tryOne(operation: Documented, token: string | undefined, maySpoil = true): Promise<{ asked: string; answer: Answer }> {
    const spoil = maySpoil && this.random.below(2) === 0
    const mangle = (value: unknown): unknown => (spoil && this.random.below(3) === 0 ? this.pick(STRANGE) : value)
    let path = operation.path
    const query: string[] = []
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))
    for (const one of operation.parameters) {
      // What is there is asked for more often than chance would have it.
      const usual = one.name === 'if-match' ? '*' : one.in === 'path' && one.name !== 'channel' && this.random.below(2) === 0 ? 'a' : undefined
      const text = asText(mangle(usual ?? this.value(one.schema)))
      if (one.in === 'path') path = path.replace(`{${one.name}}`, encodeURIComponent(text))
      else if (this.random.below(one.name === 'if-match' ? 8 : 2) === 0) continue
      else if (one.in === 'query') query.push(`${one.name}=${encodeURIComponent(text)}`)
      else if (/^[\x20-\x7e]{1,400}$/.test(text)) headers[one.name] = text
    }
    if (spoil && this.random.below(6) === 0) query.push('unknown=1')
    let payload: string | undefined
    if (operation.body !== undefined) {
      const value = this.value(operation.body)
      payload = JSON.stringify(spoil ? this.spoiled(value) : value)
      if (spoil && this.random.below(10) === 0) payload = this.pick(['', '{', '[1', '"', '\u0000', '{"a":1,"a":2}', '{"__proto__":{}}'])
      headers['content-type'] = spoil && this.random.below(10) === 0 ? this.pick(['text/plain', 'application/xml', 'application/json; charset=utf-16']) : 'application/json'
    }
    const target = query.length === 0 ? path : `${path}?${query.join('&')}`
    return { asked: `${operation.method} ${target} ${JSON.stringify(headers)} ${payload ?? ''}`, answer: await this.send(operation.method, target, headers, payload) }
  }

  /** What is wrong with an answer, by the document; undefined: nothing. */
  fault({ id, responses }: Documented, { status, type, text }: Answer): string | undefined {
    const key = [String(status), `${String(status)[0]!}XX`].find((one) => responses[one] !== undefined)
    if (status === 500) return `500: ${text}`
    if (key === undefined) return `${String(status)} is not in the document`
    const content = responses[key]!.content
    if (content === undefined) return text === '' ? undefined : `${String(status)} with a body`
    const schema = content[type]?.schema
    if (schema === undefined) return `${String(status)} comes as ${type}, not as ${Object.keys(content).join(', ')}`
    if (!type.endsWith('json')) return undefined
    const name = `${id} ${key}`
    let validate = this.validators.get(name)
    if (validate === undefined) this.validators.set(name, (validate = this.ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"doc#/components')) as object)))
    return validate(JSON.parse(text)) ? undefined : `${this.ajv.errorsText(validate.errors)} in ${text.slice(0, 400)}`
  }
}

/** A gateway and a fuzzer with a token of each kind. */
export async function startFuzzer(t: Test, seed: number): Promise<{ fuzzer: Fuzzer; tokens: Readonly<Record<string, string | undefined>>; refill: () => Promise<void>; logs: () => string }> {
  const gateway = await startGateway(t, { settings: { control_hosts: HOST, public_url: 'https://e.test' } })
  const document = (await ask(gateway.runDir, 'GET', '/v1/openapi.json')).json as unknown as Document
  const token = async (scope: string): Promise<string> => String((await ask(gateway.runDir, 'POST', '/v1/tokens', { name: `fuzz ${scope}`, scopes: [scope] })).json.secret)
  const fuzzer = new Fuzzer(document, gateway.runDir, seed)
  t.teardown(() => fuzzer.close())
  const tokens = { none: undefined, wrong: 'pt1_wrong', read: await token('read'), agents: await token('agents'), services: await token('services'), all: await token('all') }
  // What is asked for most is there again, whoever deleted it.
  const refill = async (): Promise<void> => {
    await ask(gateway.runDir, 'PUT', '/v1/services/a', { hosts: ['a.test'] })
    await ask(gateway.runDir, 'POST', '/v1/agents', { id: 'a' })
  }
  return { fuzzer, tokens, refill, logs: () => gateway.logs() }
}

/** What needs a session, or a token of a known id, can't go well here; and a copy of the store is asked for seldom. */
const NEVER_WELL = ['readSession', 'readFigures', 'disconnectSession', 'disconnectChannel', 'readToken', 'deleteToken', 'readBackup']

/** So many questions, and then as many as it takes until each operation went well: chance alone may leave one out. */
export async function fuzz(t: Test, seed: number, count: number): Promise<void> {
  const { fuzzer, tokens, refill, logs } = await startFuzzer(t, seed)
  const well = new Set<string>()
  const faults: string[] = []
  const question = async (operation: Documented, who: string, maySpoil: boolean): Promise<void> => {
    const { asked, answer } = await fuzzer.tryOne(operation, tokens[who], maySpoil)
    const may = operation.scope === null || who === 'all' || who === operation.scope || (operation.scope === 'read' && ['agents', 'services'].includes(who))
    const fault = fuzzer.fault(operation, answer) ?? (!may && answer.status < 400 ? `${who} was let in` : undefined)
    if (fault !== undefined) faults.push(`${operation.id} by ${who}: ${fault}\n  ${asked.slice(0, 600)}`)
    if (answer.status < 400) well.add(operation.id)
  }
  for (let i = 0; i < count; i++) {
    if (i % REFILL_QUESTIONS === 0) await refill()
    const operation = fuzzer.pick(fuzzer.operations)
    // A copy of the store costs more than all the rest together.
    if (operation.id === 'readBackup' && fuzzer.random.below(20) > 0) continue
    await question(operation, fuzzer.random.below(2) === 0 ? 'all' : fuzzer.pick(Object.keys(tokens)), true)
  }
  const never = (): Documented[] => fuzzer.operations.filter(({ id }) => !well.has(id) && !NEVER_WELL.includes(id))
  for (const operation of never()) {
    for (let i = 0; i < RIGHT_QUESTIONS && !well.has(operation.id); i++) {
      await refill()
      await question(operation, 'all', false)
    }
  }
  t.same(faults.slice(0, 5), [], `seed ${String(seed)}: ${String(faults.length)} faults in ${String(count)} questions`)
  t.notMatch(logs(), /control_fault|"fatal"/, 'and the gateway made no mistake that it knows of')
  t.same(never().map(({ id }) => id), [], 'each operation went well at least once')
}

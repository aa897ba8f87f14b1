// The control server keeps to its own OpenAPI document, whatever it is asked: every operation, with and without a credential, right and wrong.
import t from 'tap'
import { fuzz, startFuzzer } from './control-fuzz.ts'

const SEED = 20_261_126
const QUESTIONS = 4_000

t.test('whatever is asked, the answer is in the document', async (t) => fuzz(t, SEED, QUESTIONS))

t.test('each operation refuses what it does not take', async (t) => {
  const { fuzzer, tokens } = await startFuzzer(t, SEED)
  const json = { authorization: `Bearer ${tokens.all!}`, 'content-type': 'application/json', 'if-match': '*' }
  const code = async (method: string, path: string, payload?: string, headers: Record<string, string> = json): Promise<string> => {
    const { status, type, text } = await fuzzer.send(method, path, headers, payload)
    t.equal(type, 'application/problem+json', `${method} ${path}`)
    return `${String(status)} ${String((JSON.parse(text) as { code: unknown }).code)}`
  }
  const paths = new Set<string>()
  for (const operation of fuzzer.operations) {
    const { id, method, body, scope } = operation
    const path = operation.path.replace('{channel}', '0').replace(/\{(\w+)\}/, operation.path.includes('sessions') ? '0'.repeat(32) : operation.path.includes('tokens') ? '0'.repeat(16) : 'a')
    paths.add(path)
    t.equal(await code(method, `${path}?unknown=1`, body === undefined ? undefined : '{}'), '400 invalid', `${id}: an unknown question`)
    if (scope !== null) t.equal(await code(method, path, undefined, {}), '401 unauthenticated', `${id}: no credential`)
    if (body === undefined) continue
    t.equal(await code(method, path, 'x=1', { ...json, 'content-type': 'application/x-www-form-urlencoded' }), '415 invalid', `${id}: another type`)
    t.equal(await code(method, path, undefined, { ...json, 'content-length': id === 'apply' ? '16777217' : '1048577' }), '413 invalid', `${id}: a body that is too large`)
    for (const wrong of ['null', '[]', '"text"', '5', '{', '']) t.equal(await code(method, path, wrong), '400 invalid', `${id}: ${wrong}`)
    const { properties = {}, required = [] } = fuzzer.resolve(body)
    const right = Object.fromEntries(required.map((name) => [name, fuzzer.value(properties[name]!)]))
    t.equal(await code(method, path, JSON.stringify({ ...right, unknown: 1 })), '400 invalid', `${id}: an unknown field`)
    for (const name of required) t.equal(await code(method, path, JSON.stringify({ ...right, [name]: undefined })), '400 invalid', `${id}: without ${name}`)
    for (const [name, schema] of Object.entries(properties)) {
      const { type } = fuzzer.resolve(schema)
      const values = [5, true, 'x'.repeat(70_000), [{}], { x: 1 }].filter((value) => !(type === 'boolean' && value === true) && !(type === 'integer' && value === 5))
      for (const value of values) t.equal(await code(method, path, JSON.stringify({ ...right, [name]: value })), '400 invalid', `${id}: ${name} is ${JSON.stringify(value).slice(0, 20)}`)
    }
  }
  for (const path of paths) {
    const taken = fuzzer.operations.filter((one) => new RegExp(`^${one.path.replace(/\{\w+\}/g, '[^/]+').replaceAll('.', '\\.')}$`).test(path)).map(({ method }) => method)
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'].filter((one) => !taken.includes(one) && one !== 'HEAD')) {
      t.equal(await code(method, path, undefined, { authorization: json.authorization }), '405 no_such_method', `${method} ${path}`)
    }
  }
})

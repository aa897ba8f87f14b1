// Credentials for a service's visitors: made here, shown once, kept in its policy as their hash. Nobody chooses one.
import { type Desk, known } from './control-desk.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { credentialCreate, credentialWithSecret, serviceName } from './control-schemas.ts'
import { CREDENTIALS_MAX_COUNT, type Credential, makeBasic, makeToken, type PolicyFault, policyFaults, type ServicePolicy } from './policy.ts'
import { record } from './schema-parts.ts'

const params = record({ name: serviceName })

export function credentialOperations(desk: Desk): Operation[] {
  const { store } = desk
  return [
    operation({
      id: 'createCredential', method: 'POST', path: '/v1/services/:name/credentials', scope: 'services', params, body: credentialCreate, answers: { 201: credentialWithSecret }, creates: true,
      about: 'Makes a token, or a name and a password, for the visitors of a service, and shows it this once. Visitors with those of before stay welcome.',
      handle: (asked) => desk.create(asked, async (remember) => {
        const { params: { name }, body, who } = asked
        const service = known(store.services.one(name), `service ${name}`)
        if (body.user !== undefined && body.field !== undefined) throw wrong([{ field: 'field', reason: 'a name and a password come as Basic, in no field of their own' }])
        const random = (bytes: number): Buffer => desk.options.random(bytes)
        const credential = body.user === undefined ? makeToken(random) : makeBasic(body.user, random)
        const policy = body.user === undefined ? withToken(service.policy, credential, body.field) : withBasic(service.policy, credential)
        const faults = policyFaults(policy)
        if (faults.length > 0) throw wrong(faults.map(({ reason }) => ({ field: 'field', reason })))
        const after = { ...service, policy }
        desk.change(who, { kind: 'credential_created', subject: `services/${name}`, detail: { sha256: credential.sha256 } }, () => {
          store.services.put(after)
          remember()
        })
        await desk.publishServices([{ name, after }])
        return { status: 201, body: credential, headers: { 'Cache-Control': 'no-store' } }
      }),
    }),
  ]
}

const wrong = (faults: readonly PolicyFault[]): Problem => new Problem(400, 'invalid', faults.map(({ reason }) => reason).join('; '), faults)

function withToken(policy: ServicePolicy, { sha256 }: Credential, field: string | undefined): ServicePolicy {
  const before = policy.token
  if (before !== undefined && field?.toLowerCase() !== before.field?.toLowerCase()) {
    throw new Problem(409, 'other_field', `its tokens come ${before.field === undefined ? 'as Bearer' : `in ${before.field}`}`, [{ field: 'field', reason: 'tokens of one service come in one field' }])
  }
  return { ...policy, token: { ...(field === undefined ? {} : { field }), ...before, sha256: more(before?.sha256, sha256) } }
}

const withBasic = (policy: ServicePolicy, { sha256 }: Credential): ServicePolicy => ({ ...policy, basic: { sha256: more(policy.basic?.sha256, sha256) } })

function more(before: readonly string[] = [], sha256: string): string[] {
  if (before.length >= CREDENTIALS_MAX_COUNT) throw new Problem(409, 'too_many', `there are ${String(before.length)} already: take one out of the policy first`)
  return [...before, sha256]
}

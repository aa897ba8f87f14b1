// The operation that makes settings, services and agents as one text says: all of it, or nothing and why, and the difference is its answer.
import { setImmediate } from 'node:timers'
import { isDeepStrictEqual, promisify } from 'node:util'
import type { Who } from './control-access.ts'
import { changedAgent, checkedAgent, freshAgent, joinUrl, newSecret, type NewSecret, told } from './control-agents.ts'
import { type Desk, moment } from './control-desk.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { type AgentSettings, applied, type AppliedChange, applyBody, applyQuery, type Wanted } from './control-schemas.ts'
import { checkService, checkUnused, serviceAsSaid, serviceShown } from './control-services.ts'
import { settingFaults } from './control-settings.ts'
import { withKey, withoutKey, withoutKeys } from './control-tls.ts'
import { together } from './moved-places.ts'
import { record } from './schema-parts.ts'
import type { StoredAgent } from './store-agents.ts'
import type { StoredService } from './store-services.ts'

/** Ten thousand services and as many agents are 3 MB. */
const BODY_MAX_BYTES = 16_777_216
/** Secrets that are made before whoever else asks has a turn: each takes a millisecond. */
const SECRETS_STEP_COUNT = 16
const turn = promisify(setImmediate)

export function applyOperations(desk: Desk): Operation[] {
  return [
    operation({
      id: 'apply', method: 'POST', path: '/v1/apply', scope: 'all',
      about: 'Makes settings, services and agents what the body says, all of it or nothing, and answers the difference. What it does not name stays.',
      query: record({}, applyQuery), body: applyBody, bodyMaxBytes: BODY_MAX_BYTES, answers: { 200: applied },
      handle: async ({ query, body, who }) => {
        const prune = query.prune === 'true'
        if (query.dry_run === 'true') {
          const { changes } = desk.store.rehearse(() => new Applying(desk, who, body, UNMADE).all(prune))
          return { status: 200, body: { changes } }
        }
        const secrets = await secretsFor(desk, body)
        let done: Applying | undefined
        desk.write(() => (done = new Applying(desk, who, body, secrets).all(prune)))
        await done!.publish()
        return { status: 200, body: { changes: done!.changes }, headers: { 'Cache-Control': 'no-store' } }
      },
    }),
  ]
}

/** Of an agent that is not to be. */
const UNMADE = { get: (): NewSecret => ({ record: '', join: '' }) }

async function secretsFor(desk: Desk, { agents = {} }: Wanted): Promise<Map<string, NewSecret>> {
  const secrets = new Map<string, NewSecret>()
  for (const [id, { url }] of Object.entries(agents)) {
    if (desk.store.agents.one(id) !== undefined) continue
    secrets.set(id, within(`agents.${id}`, () => newSecret(desk, id, joinUrl(desk, url))))
    if (secrets.size % SECRETS_STEP_COUNT === 0) await turn()
  }
  return secrets
}

/** What an agent is of which nothing is said. */
const UNSAID = { services: [], labels: [], settings: {}, disabled: false, expires_at: null }
/** What may be said of one. */
const sayable = ({ services, labels, settings, disabled, expiresAt }: StoredAgent): object => ({ services, labels, settings, disabled, expires_at: moment(expiresAt) })

interface ServiceStep {
  readonly name: string
  readonly before: StoredService | undefined
  readonly after: StoredService | undefined
}

/** One such change. It happens within a transaction, and is published after it. */
class Applying {
  readonly changes: AppliedChange[] = []
  private readonly desk: Desk
  private readonly who: Who
  private readonly wanted: Wanted
  private readonly secrets: Pick<Map<string, NewSecret>, 'get'>
  private settings: AgentSettings | undefined
  private readonly services: ServiceStep[] = []
  private readonly agents: { readonly id: string; readonly after: StoredAgent | undefined }[] = []

  constructor(desk: Desk, who: Who, wanted: Wanted, secrets: Pick<Map<string, NewSecret>, 'get'>) {
    this.desk = desk
    this.who = who
    this.wanted = wanted
    this.secrets = secrets
  }

  all(prune: boolean): this {
    const { store } = this.desk
    const { services = {}, agents = {} } = this.wanted
    this.setSettings()
    const steps = Object.entries(services).map(([name, said]) => this.serviceStep(name, said))
    const wanted = steps.filter(({ name, before, after }) => before === undefined || this.hasChanged(`services/${name}`, serviceShown(before), serviceShown(after)))
    const gone = prune ? store.services.all().filter(({ name }) => !Object.hasOwn(services, name)) : []
    // All give up their places before any takes one.
    for (const { name } of [...wanted, ...gone]) store.services.vacate(name)
    for (const step of wanted) this.putService(step)
    for (const [id, said] of Object.entries(agents)) this.putAgent(id, said)
    // An agent that is named for a service keeps it.
    if (prune) for (const { id } of store.agents.all()) if (!Object.hasOwn(agents, id)) this.removeAgent(id)
    for (const service of gone) this.removeService(service)
    return this
  }

  /** Nobody waits for all of it: what belongs together is published at once, and others have their turn between. */
  async publish(): Promise<void> {
    const { desk } = this
    if (this.settings !== undefined) await desk.options.publish({ settings: this.settings })
    const hostsOf = ({ before, after }: ServiceStep): string[] => [...(before?.hosts ?? []), ...(after?.hosts ?? [])]
    for (const group of together(this.services, hostsOf)) await desk.publishServices(group)
    for (const { id, after } of this.agents) await desk.publishAgent(id, after)
  }

  private setSettings(): void {
    const before = this.desk.settings()
    const settings = withKey(this.wanted.settings ?? before, before)
    if (!this.hasChanged('settings', before, settings)) return
    settingFaults(settings, 'settings.')
    this.desk.putSettings(settings)
    this.settings = settings
    this.note('settings_changed', 'settings', withoutKey(settings))
  }

  private serviceStep(name: string, said: NonNullable<Wanted['services']>[string]): ServiceStep & { readonly after: StoredService } {
    const before = this.desk.store.services.one(name)
    return { name, before, after: serviceAsSaid(this.desk, name, said, before) }
  }

  private putService(step: ServiceStep & { readonly after: StoredService }): void {
    const { name, before, after } = step
    within(`services.${name}`, () => checkService(this.desk, after))
    this.desk.store.services.put(after)
    this.services.push(step)
    if (before === undefined) this.changes.push({ action: 'created', resource: `services/${name}`, fields: [] })
    const { name: _name, createdAt: _createdAt, ...detail } = after
    this.note(before === undefined ? 'service_created' : 'service_changed', `services/${name}`, detail)
  }

  private removeService(before: StoredService): void {
    const { name } = before
    within(`services.${name}`, () => checkUnused(this.desk, name))
    this.desk.store.services.remove(name)
    this.services.push({ name, before, after: undefined })
    this.changes.push({ action: 'removed', resource: `services/${name}`, fields: [] })
    this.note('service_deleted', `services/${name}`)
  }

  private putAgent(id: string, { url: _url, ...said }: NonNullable<Wanted['agents']>[string]): void {
    const { desk } = this
    const now = desk.now()
    const before = desk.store.agents.one(id)
    const secret = before === undefined ? this.secrets.get(id) : undefined
    if (before === undefined && secret === undefined) throw new Problem(409, 'changed_since', `agents.${id}: it was removed while this was applied`)
    const after = changedAgent(before ?? freshAgent(id, secret!.record, now), { ...UNSAID, ...said })
    if (before !== undefined && !this.hasChanged(`agents/${id}`, sayable(before), sayable(after))) return
    within(`agents.${id}`, () => checkedAgent(desk, after))
    desk.store.agents.put(after)
    this.agents.push({ id, after })
    if (secret !== undefined) this.changes.push({ action: 'created', resource: `agents/${id}`, fields: [], ...(secret.join === '' ? {} : { join: secret.join }) })
    this.note(before === undefined ? 'agent_created' : 'agent_changed', `agents/${id}`, told(said))
  }

  private removeAgent(id: string): void {
    this.desk.store.agents.remove(id)
    this.agents.push({ id, after: undefined })
    this.changes.push({ action: 'removed', resource: `agents/${id}`, fields: [] })
    this.note('agent_deleted', `agents/${id}`)
  }

  private note(kind: string, subject: string, detail: object = {}): void {
    this.desk.note(this.who, { kind, subject, detail: { ...detail } })
  }

  /** Is there a difference? Then it is among the changes. */
  private hasChanged(resource: string, before: object, after: object): boolean {
    const [was, is] = [before, after] as Readonly<Record<string, unknown>>[]
    const names = [...new Set([...Object.keys(was!), ...Object.keys(is!)])].filter((name) => !isDeepStrictEqual(was![name], is![name]))
    if (names.length > 0) this.changes.push({ action: 'changed', resource, fields: names.map((field) => ({ field, before: asJson(was![field]), after: asJson(is![field]) })) })
    return names.length > 0
  }
}

const asJson = (value: unknown): string | null => (value === undefined ? null : withoutKeys(JSON.stringify(value)))

/** Throws a Problem of `check` as one of that part of the body. */
function within<T>(part: string, check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    throw new Problem(error.status, error.code, `${part}: ${error.message}`, error.faults.map(({ field, reason }) => ({ field: `${part}.${field}`, reason })))
  }
}

// The resource of what is set for all agents; what is set for one is a field of its own.
import { checkMatch, type Desk, etagOf } from './control-desk.ts'
import { type Operation, operation, type Said } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { type AgentSettings, settings as settingsSchema } from './control-schemas.ts'
import { tlsFaults, withKey, withoutKey } from './control-tls.ts'

/** Throws a Problem for settings that do not agree. `at`: where they lie in the body. */
export function settingFaults(settings: AgentSettings, at: string): void {
  const faults = tlsFaults(settings, at)
  if (faults.length > 0) throw new Problem(400, 'invalid', faults.map(({ field, reason }) => `${field} ${reason}`).join('; '), faults)
  const { heartbeat_ms, dead_after_ms } = settings
  if (heartbeat_ms === undefined || dead_after_ms === undefined || dead_after_ms > heartbeat_ms) return
  const reason = `should be more than heartbeat_ms, which is ${String(heartbeat_ms)}`
  throw new Problem(400, 'invalid', `dead_after_ms ${reason}`, [{ field: `${at}dead_after_ms`, reason }])
}

export function settingOperations(desk: Desk): Operation[] {
  const tagged = (settings: AgentSettings): Said => ({ status: 200, body: withoutKey(settings), headers: { ETag: etagOf(withoutKey(settings)) } })
  return [
    operation({
      id: 'readSettings', method: 'GET', path: '/v1/settings', scope: 'read', about: 'What is set for all agents. What is not is as the gateway was started with.', answers: { 200: settingsSchema },
      handle: () => tagged(desk.settings()),
    }),
    operation({
      id: 'putSettings', method: 'PUT', path: '/v1/settings', scope: 'all', about: 'Sets exactly this for all agents.', body: settingsSchema, answers: { 200: settingsSchema }, edits: 'must',
      handle: async ({ body, who, request }) => {
        const before = desk.settings()
        checkMatch(request, withoutKey(before), 'must')
        const settings = withKey(body, before)
        settingFaults(settings, '')
        desk.change(who, { kind: 'settings_changed', subject: 'settings', detail: { ...withoutKey(settings) } }, () => desk.putSettings(settings))
        await desk.options.publish({ settings })
        return tagged(settings)
      },
    }),
  ]
}

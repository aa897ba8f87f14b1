// Routes on a folder and a clock of a test: what is published, what failed, and who serves.
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { ServiceChange, ServiceEntry } from '../../sidecar/directory.ts'
import { Known } from '../../sidecar/known.ts'
import { PlainRoutes } from '../../sidecar/plain-routes.ts'
import type { Presence } from '../../sidecar/presence.ts'
import { Routes } from '../../sidecar/routes.ts'

/**
 * Routes over `services`, published; timers fire when told. `onWrite` is called as each file begins to be written, `onChange` hears of changes before the
 * routes do, as the gateway's registry.
 */
export function rig(runDir: string, services: ServiceEntry[], onWrite: () => void = () => undefined, onChange: (changes: readonly ServiceChange[]) => void = () => undefined) {
  const known = new Known([], services)
  known.listen({ agentChanged: () => undefined, servicesChanged: onChange })
  const presences = new Map<string, Presence>()
  const troubles: (string | undefined)[] = []
  let timers: (() => void)[] = []
  let now = 0
  const clock = {
    now: () => now,
    soon: (then: () => void) => then(),
    later: (_ms: number, then: () => void) => {
      timers.push(then)
      return () => void (timers = timers.filter((one) => one !== then))
    },
  }
  const random = (bytes: number): Buffer => {
    onWrite()
    return randomBytes(bytes)
  }
  const plain = new PlainRoutes(clock)
  const options = { runDir, plain, directory: known, clock, graceMs: 1, random, presence: (name: string) => presences.get(name) ?? 'away' }
  const routes = new Routes({ ...options, onTrouble: (error) => troubles.push(error?.message) })
  routes.start()
  const read = (name: string) => readFileSync(join(runDir, 'routes', name), 'utf8')
  const isPlain = (name: string) => (statSync(join(runDir, 'routes', name)).mode & 0o777) === 0o744
  const names = () => readdirSync(join(runDir, 'routes')).sort()
  const pass = (ms: number) => void (now += ms)
  const fire = () => {
    const due = timers
    timers = []
    for (const then of due) then()
  }
  const serve = (name: string, presence: Presence | boolean) => {
    const now = presence === true ? 'up' : presence === false ? 'away' : presence
    presences.set(name, now)
    routes.presenceChanged(name, now)
  }
  return { known, routes, plain, troubles, read, isPlain, names, pass, fire, serve }
}

// Kills a real gateway with SIGKILL while changes come in, again and again, and looks for each that was acknowledged.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { startGateway } from '../harness/gateway.ts'
import { until } from '../harness/until.ts'
import { ask } from './control-socket.ts'

const WRITERS = 4
/** Changes that are acknowledged before each kill. */
const CHANGES = 20

interface Entry {
  readonly subject: string
}

export async function killed(t: Test, rounds: number): Promise<void> {
  const gateway = await startGateway(t)
  const all = async <T>(path: string): Promise<T[]> => {
    const items: T[] = []
    for (let after = ''; ; ) {
      const page = (await ask(gateway.runDir, 'GET', `${path}limit=1000${after}`)).json as { items: T[]; next: string | null }
      items.push(...page.items)
      if (page.next === null) return items
      after = `&after=${page.next}`
    }
  }
  const acknowledged: string[] = []
  for (let round = 0; round < rounds; round++) {
    let next = 0
    const writer = async (): Promise<void> => {
      for (;;) {
        const name = `r${String(round)}-${String(next++)}`
        const told = await ask(gateway.runDir, 'PUT', `/v1/services/${name}`, { hosts: [`${name}.test`, `+.${name}.test`] }).catch(() => undefined)
        if (told === undefined) return
        t.equal(told.status, 201)
        acknowledged.push(name)
      }
    }
    const before = acknowledged.length
    const writers = Promise.all(Array.from({ length: WRITERS }, writer))
    await until('changes come in', () => acknowledged.length > before + CHANGES)
    await gateway.kill()
    await writers
    await gateway.restart()
    const services = await all<{ name: string; hosts: string[] }>('/v1/services?')
    const names = new Set(services.map(({ name }) => name))
    t.same(acknowledged.filter((name) => !names.has(name)), [], `${String(acknowledged.length)} acknowledged`)
    const subjects = new Set((await all<Entry>('/v1/history?kind=service_created&')).map(({ subject }) => subject))
    t.same(services.filter(({ name }) => !subjects.has(`services/${name}`)), [], 'each has its entry in the history')
    const wrong = services.filter(({ name, hosts }) => hosts.join(' ') !== `${name}.test +.${name}.test` || !existsSync(join(gateway.runDir, 'routes', `${name}.test`)))
    t.same(wrong, [], 'each is whole, and in the route table')
  }
}

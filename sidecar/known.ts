// The directory in memory: what the store holds, as the hot path asks for it; each change is told to all who listen.
import type { AgentSettings } from './control-schemas.ts'
import type { AgentEntry, Directory, DirectoryListener, ServiceChange, ServiceEntry } from './directory.ts'

const NONE: readonly string[] = []
const UNSET: AgentSettings = {}

/** A change that the store has taken: an agent's entry holds what is set for it alone, and the services that it is named for. */
export type Change =
  | { readonly agent: string; readonly entry: AgentEntry | undefined }
  | { readonly services: readonly ServiceChange[] }
  | { readonly settings: AgentSettings }

export class Known implements Directory {
  /** As the store has them. */
  private readonly configured = new Map<string, AgentEntry>()
  /** With the services that their labels bring, and everybody's settings. */
  private readonly byId = new Map<string, AgentEntry>()
  private readonly byName = new Map<string, ServiceEntry>()
  /** Services that ask for labels, by the first of them: an agent is compared with those that have one of its own. */
  private readonly byLabel = new Map<string, Set<ServiceEntry>>()
  private readonly listeners: DirectoryListener[] = []
  private settings: AgentSettings

  constructor(agents: readonly AgentEntry[], services: readonly ServiceEntry[], settings: AgentSettings = UNSET) {
    this.settings = settings
    for (const service of services) this.place(service.name, service)
    for (const agent of agents) {
      this.configured.set(agent.id, agent)
      this.byId.set(agent.id, this.whole(agent))
    }
  }

  agent(id: string): AgentEntry | undefined {
    return this.byId.get(id)
  }

  service(name: string): ServiceEntry | undefined {
    return this.byName.get(name)
  }

  agents(): Iterable<AgentEntry> {
    return this.byId.values()
  }

  services(): Iterable<ServiceEntry> {
    return this.byName.values()
  }

  listen(listener: DirectoryListener): void {
    this.listeners.push(listener)
  }

  apply(change: Change): void {
    if ('agent' in change) this.changeAgent(change.agent, change.entry)
    else if ('services' in change) this.changeServices(change.services)
    else this.changeSettings(change.settings)
  }

  changeAgent(id: string, entry: AgentEntry | undefined): void {
    if (entry === undefined) {
      this.configured.delete(id)
      this.byId.delete(id)
    } else {
      this.configured.set(id, entry)
      this.byId.set(id, this.whole(entry))
    }
    this.tellAgent(id)
  }

  changeServices(changes: readonly ServiceChange[]): void {
    const asksOther = changes.some(({ name, entry }) => !same(this.byName.get(name)?.labels ?? NONE, entry?.labels ?? NONE))
    for (const { name, entry } of changes) this.place(name, entry)
    const changed = asksOther ? this.review(({ labels = NONE }) => labels.length > 0) : []
    for (const listener of this.listeners) listener.servicesChanged(changes)
    for (const id of changed) this.tellAgent(id)
  }

  private changeSettings(settings: AgentSettings): void {
    this.settings = settings
    for (const id of this.review(() => true)) this.tellAgent(id)
  }

  private place(name: string, entry: ServiceEntry | undefined): void {
    const before = this.byName.get(name)
    if (before !== undefined) this.byLabel.get(before.labels?.[0] ?? '')?.delete(before)
    if (entry === undefined) {
      this.byName.delete(name)
      return
    }
    this.byName.set(name, entry)
    const first = entry.labels?.[0]
    if (first === undefined) return
    const services = this.byLabel.get(first)
    if (services === undefined) this.byLabel.set(first, new Set([entry]))
    else services.add(entry)
  }

  /** Looks anew at what those agents may serve and what is set for them; returns the ids of those for whom it changed. */
  private review(concerns: (agent: AgentEntry) => boolean): string[] {
    const changed: string[] = []
    for (const agent of this.configured.values()) {
      if (!concerns(agent)) continue
      const before = this.byId.get(agent.id)!
      const after = this.whole(agent)
      this.byId.set(agent.id, after)
      if (!same(before.services, after.services) || JSON.stringify(before.settings) !== JSON.stringify(after.settings)) changed.push(agent.id)
    }
    return changed
  }

  private whole(agent: AgentEntry): AgentEntry {
    return { ...agent, services: this.servedBy(agent), settings: { ...this.settings, ...(agent.settings ?? UNSET) } }
  }

  private servedBy({ services, labels = NONE }: AgentEntry): readonly string[] {
    const found = new Set(services)
    for (const label of labels) {
      for (const { name, labels: asks = NONE } of this.byLabel.get(label) ?? []) if (asks.every((one) => labels.includes(one))) found.add(name)
    }
    return found.size === services.length ? services : [...found]
  }

  private tellAgent(id: string): void {
    for (const listener of this.listeners) listener.agentChanged(id, this.byId.get(id))
  }
}

const same = (a: readonly string[], b: readonly string[]): boolean => a.length === b.length && a.every((value, i) => value === b[i])

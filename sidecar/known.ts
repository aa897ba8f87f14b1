// The directory in memory: what the store holds, as the hot path asks for it; each change is told to all who listen.
import type { AgentEntry, Directory, DirectoryListener, ServiceEntry } from './directory.ts'

export class Known implements Directory {
  private readonly byId = new Map<string, AgentEntry>()
  private readonly byName = new Map<string, ServiceEntry>()
  private readonly listeners: DirectoryListener[] = []

  constructor(agents: readonly AgentEntry[], services: readonly ServiceEntry[]) {
    for (const agent of agents) this.byId.set(agent.id, agent)
    for (const service of services) this.byName.set(service.name, service)
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

  changeAgent(id: string, entry: AgentEntry | undefined): void {
    if (entry === undefined) this.byId.delete(id)
    else this.byId.set(id, entry)
    for (const listener of this.listeners) listener.agentChanged(id, entry)
  }

  changeService(name: string, entry: ServiceEntry | undefined): void {
    if (entry === undefined) this.byName.delete(name)
    else this.byName.set(name, entry)
    for (const listener of this.listeners) listener.serviceChanged(name, entry)
  }
}

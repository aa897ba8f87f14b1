// The contract between what is configured and the hot path: the agents and services the gateway knows, in memory, told of each change.
import type { AgentSettings } from './control-schemas.ts'
import type { ServicePolicy } from './policy.ts'

/** An agent that may come in now: one that is disabled, revoked or expired is not here. */
export interface AgentEntry {
  readonly id: string
  /** Its OPAQUE registration record (protocol/opaque.ts): proves the secret, does not hold it. */
  readonly record: string
  /** Names of the services it may serve: those it is named for, and those whose labels it has. */
  readonly services: readonly string[]
  /** What services select it by, beside its name. */
  readonly labels?: readonly string[] | undefined
  /** What is set for it: its own over everybody's. What neither sets is as the gateway was started with. */
  readonly settings?: AgentSettings | undefined
}

/** Something published. */
export interface ServiceEntry {
  readonly name: string
  /** Lower-case hostnames; a wildcard is `+.example.com`. */
  readonly hosts: readonly string[]
  /** Raw path prefixes, each beginning and (but for `/`) not ending with `/`; `/` is all. */
  readonly prefixes: readonly string[]
  /** Unknown and away look alike to a visitor. */
  readonly conceal: boolean
  /** Always through the h2 door, so that trailers reach the visitor. */
  readonly trailers: boolean
  /** What is asked of its visitors and agents; nothing, if it is not said. */
  readonly policy?: ServicePolicy | undefined
  /** An agent that has all of these may serve it too. None: only those that name it. */
  readonly labels?: readonly string[] | undefined
  /** Where its agents might find it, as a target is typed: theirs to take or to refuse. */
  readonly origin?: string | undefined
}

/** A service that changed; the entry is the new one, or undefined when it is gone. */
export interface ServiceChange {
  readonly name: string
  readonly entry: ServiceEntry | undefined
}

export interface DirectoryListener {
  /** The entry is the new one, or undefined when it is gone. */
  agentChanged(id: string, entry: AgentEntry | undefined): void
  /** All of them at once: a place that one gives up and another takes is never nobody's. */
  servicesChanged(changes: readonly ServiceChange[]): void
}

/** Reads are synchronous: the hot path asks it. */
export interface Directory {
  agent(id: string): AgentEntry | undefined
  service(name: string): ServiceEntry | undefined
  agents(): Iterable<AgentEntry>
  services(): Iterable<ServiceEntry>
  listen(listener: DirectoryListener): void
}

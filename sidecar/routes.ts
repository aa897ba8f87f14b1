// The route publisher: one small file per hostname for nginx, written whole and renamed, changed only when its state changes.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../protocol/clock.ts'
import type { Directory, DirectoryListener, ServiceChange, ServiceEntry } from './directory.ts'
import { NOTHING_ASKED, policyFile } from './policy-file.ts'
import type { PlainRoutes } from './plain-routes.ts'
import type { Presence, PresenceListener } from './presence.ts'
import { isShort, isWildcard, MARK, MARK_MODE, RouteMark } from './route-mark.ts'

const PREFIXES = '@prefixes'
const POLICY = '@policy-'
const POLICY_NAME = /^@policy-[a-z0-9][a-z0-9-]{0,62}$/
/** What becomes a file's name: nothing else ever does. */
const HOST = /^(?:\+\.)?[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/
/** A file's name has at most 255 bytes, and `@prefixes` is part of one. */
const HOST_MAX_BYTES = 255 - PREFIXES.length
/** Up, the first door, no flags. Under an exact host nginx need not read it. */
const PLAIN = /^1 up h1 ([a-z0-9][a-z0-9-]{0,62}) -\n$/
const MODE = 0o644
/** What a plain route's mode tells nginx, which looks at the file in any case. */
const PLAIN_MODE = 0o744
/** As many as njs reads of a prefix file. */
export const PREFIXES_MAX_COUNT = 64
/** A full disk is tried again this often. */
const RETRY_MS = 1_000

export const isHost = (host: string): boolean => host.length <= HOST_MAX_BYTES && HOST.test(host)

/** The host whose file it is, or whose prefixes. */
const hostOf = (name: string): string => (name.endsWith(PREFIXES) ? name.slice(0, -PREFIXES.length) : name)

function plainService(name: string, content: string | undefined): string | undefined {
  return content === undefined || isWildcard(name) ? undefined : PLAIN.exec(content)?.[1]
}

/** Is it a name that the wildcard stands for? */
const isUnder = (name: string, wildcard: string): boolean => isWildcard(wildcard) && name !== wildcard && name.replace(/^\+/, '').endsWith(wildcard.slice(1))

const modeOf = (name: string, content: string): number => (plainService(name, content) === undefined ? MODE : PLAIN_MODE)

const policyOf = ({ name, policy }: ServiceEntry): string | undefined => (policy === undefined ? undefined : policyFile(name, policy))

export interface RoutesOptions {
  readonly runDir: string
  readonly directory: Directory
  /** Told of each host whose file is plain. */
  readonly plain: PlainRoutes
  presence(service: string): Presence
  readonly clock: Clock
  /** After a start, what the last table called up stays up for so long: its agents are on their way. */
  readonly graceMs: number
  /** Writing fails, or does again after `undefined` said that it is well. Once for each, not for each file. */
  onTrouble(error: Error | undefined): void
  /** For names of temporary files. */
  random(bytes: number): Buffer
}

export class Routes implements DirectoryListener, PresenceListener {
  private readonly options: RoutesOptions
  private readonly folder: string
  /** File name to content: what is on the disk. */
  private readonly written = new Map<string, string>()
  /** Services as they were last told to us: who serves them may be told before what has become of them. */
  private readonly placed = new Map<string, ServiceEntry>()
  private readonly hostsOf = new Map<string, readonly string[]>()
  private readonly byHost = new Map<string, Set<string>>()
  private readonly mark = new RouteMark()
  private readonly expected = new Set<string>()
  private readonly failed = new Set<string>()
  /** The folder is there, and what the last process left in it is known. */
  private opened = false
  private marked = false
  private swept = false
  private stopped = false
  private troubled = false
  private stopRetry: (() => void) | undefined
  private stopGrace: (() => void) | undefined

  constructor(options: RoutesOptions) {
    this.options = options
    this.folder = join(options.runDir, 'routes')
  }

  /** Is the whole table there for nginx? */
  get published(): boolean {
    return this.marked && this.failed.size === 0
  }

  /** Writes all known services, then the mark, then removes strangers. What fails is tried again until it works. */
  start(): void {
    for (const service of this.options.directory.services()) this.place(service.name, service)
    this.options.directory.listen(this)
    this.advance()
    this.stopGrace = this.options.clock.later(this.options.graceMs, () => {
      const services = [...this.expected]
      this.expected.clear()
      for (const service of services) this.touch(service)
    })
  }

  /** The table stays as it is: agents that go now come to the next process. */
  stop(): void {
    this.stopped = true
    this.stopRetry?.()
    this.stopGrace?.()
  }

  agentChanged(): void {}

  servicesChanged(changes: readonly ServiceChange[]): void {
    const before = changes.flatMap(({ name }) => this.hostsOf.get(name) ?? [])
    for (const { name, entry } of changes) this.place(name, entry)
    const hosts = new Set([...before, ...changes.flatMap(({ name }) => this.hostsOf.get(name) ?? [])])
    // nginx looks for wildcards as the mark says: it says so before they are there.
    if (this.opened && !this.stopped) this.attempt(() => this.mark.tellMore(this.writeMark))
    for (const { name } of changes) this.publishPolicy(name)
    // What is nobody's any more goes last: a wildcard that is to have it is there by then.
    const [held, left] = [[...hosts].filter((host) => this.byHost.has(host)), [...hosts].filter((host) => !this.byHost.has(host))]
    for (const host of [...held, ...left]) this.publish(host)
    if (!this.opened || this.stopped || this.failed.size > 0) return
    this.attempt(() => this.mark.tell(this.mark.set, this.writeMark))
    for (const { name, entry } of changes) if (entry === undefined) this.put(POLICY + name, undefined)
  }

  presenceChanged(service: string, presence: Presence): void {
    if (presence !== 'away') this.expected.delete(service)
    this.touch(service)
  }

  private touch(service: string): void {
    for (const host of this.hostsOf.get(service) ?? []) this.publish(host)
  }

  private place(name: string, entry: ServiceEntry | undefined): void {
    for (const host of this.hostsOf.get(name) ?? []) {
      const services = this.byHost.get(host)
      services?.delete(name)
      if (services?.size !== 0) continue
      this.byHost.delete(host)
      this.mark.count(host, -1)
    }
    this.hostsOf.delete(name)
    this.placed.delete(name)
    if (entry === undefined) return
    this.placed.set(name, entry)
    const hosts = entry.hosts.filter(isHost)
    this.hostsOf.set(name, hosts)
    for (const host of hosts) {
      const services = this.byHost.get(host)
      if (services !== undefined) {
        services.add(name)
        continue
      }
      this.byHost.set(host, new Set([name]))
      this.mark.count(host, 1)
    }
  }

  // Before the routes: whoever finds a route of today finds the policy of today. Where none is asked for any more, what says so stays for those who read
  // the route of before.
  private publishPolicy(name: string): void {
    const service = this.placed.get(name)
    if (!this.opened || this.stopped || service === undefined) return
    const text = policyOf(service)
    this.put(POLICY + name, text ?? (this.written.has(POLICY + name) ? NOTHING_ASKED : undefined))
  }

  private publish(host: string): void {
    if (!this.opened || this.stopped) return
    if (!this.mustWait(host)) return this.publishRoutes(host)
    this.failed.add(host)
    this.retryLater()
  }

  // What would say too much, or too little, as long as something else can't be written is tried again together with that.
  private mustWait(host: string): boolean {
    const services = this.byHost.get(host)
    // A name that goes to a wildcard keeps its file until the wildcard's is there, a wildcard its own until those of the names under it are.
    if (services === undefined) return [...this.failed].some((other) => this.isMissing(other) && (isUnder(host, other) || isUnder(other, host)))
    // A wildcard is there when nginx looks for it, a route when its policy is.
    return (isWildcard(host) && !this.mark.shows(host)) || [...services].some((name) => this.failed.has(POLICY + name))
  }

  private isMissing(host: string): boolean {
    return this.byHost.has(host) && !this.written.has(host)
  }

  // The prefix file first: a main file with the flag never stands without it.
  private publishRoutes(host: string): void {
    const routes: { prefix: string; line: (more: string) => string }[] = []
    for (const name of [...(this.byHost.get(host) ?? [])].sort()) {
      const service = this.placed.get(name)
      if (service === undefined) continue
      const state = this.stateOf(service)
      const line = (more: string): string => {
        const flags = `${service.conceal ? 'c' : ''}${policyOf(service) === undefined ? '' : 'y'}${more}`
        return `1 ${state} ${service.trailers ? 'h2' : 'h1'} ${name} ${flags === '' ? '-' : flags}`
      }
      for (const prefix of service.prefixes) routes.push({ prefix, line })
    }
    if (routes.length === 0) {
      if (this.put(host, undefined)) this.put(host + PREFIXES, undefined)
      return
    }
    // Sorting keeps the order of equals: services by name.
    const below = routes.filter(({ prefix }) => prefix !== '/').sort((a, b) => b.prefix.length - a.prefix.length).slice(0, PREFIXES_MAX_COUNT)
    const flag = below.length > 0 ? 'p' : ''
    const root = routes.find(({ prefix }) => prefix === '/')
    if (below.length > 0 && !this.put(host + PREFIXES, `${below.map(({ prefix, line }) => `${prefix} ${line('')}`).join('\n')}\n`)) return void this.failed.add(host)
    if (this.put(host, `${root?.line(flag) ?? `1 none h1 - ${flag}`}\n`) && below.length === 0) this.put(host + PREFIXES, undefined)
  }

  private stateOf({ name, policy }: ServiceEntry): Presence | 'off' {
    if (policy?.state === 'off') return 'off'
    const presence = this.options.presence(name)
    return presence === 'away' && this.expected.has(name) ? 'up' : presence
  }

  /** Is it on the disk now? */
  private put(name: string, content: string | undefined): boolean {
    if (this.written.get(name) === content && !this.failed.has(name)) {
      this.told(name, content)
      return true
    }
    try {
      if (content === undefined) rmSync(join(this.folder, name), { force: true })
      else this.write(name, content, modeOf(name, content))
    } catch (error) {
      this.failed.add(name)
      this.trouble(error instanceof Error ? error : new Error(String(error)))
      return false
    }
    this.failed.delete(name)
    if (content === undefined) this.written.delete(name)
    else this.written.set(name, content)
    this.told(name, content)
    return true
  }

  // What is on the disk, not what is meant to be: if it can't be written nginx goes by what it sees.
  private told(name: string, content: string | undefined): void {
    const service = plainService(name, content)
    if (service === undefined) this.options.plain.end(name)
    else this.options.plain.set(name, service)
  }

  private readonly writeMark = (text: string): void => this.write(MARK, text, MARK_MODE)

  private write(name: string, content: string, mode: number): void {
    const temporary = join(this.folder, `.tmp-${this.options.random(8).toString('hex')}`)
    try {
      writeFileSync(temporary, content, { flag: 'wx', mode })
      renameSync(temporary, join(this.folder, name))
    } catch (error) {
      rmSync(temporary, { force: true })
      throw error
    }
  }

  // As far as the disk lets it: all files, then the mark (without it the table counts as absent), then strangers go.
  private advance(): void {
    if (!this.attempt(() => this.open())) return
    if (this.failed.size > 0) return
    if (!this.marked) {
      if (!this.attempt(() => this.mark.make(this.mark.set, this.writeMark))) return
      this.marked = true
    }
    if (!this.attempt(() => this.mark.tell(this.mark.set, this.writeMark))) return
    if (!this.attempt(() => this.sweep())) return
    for (const name of [...this.written.keys()]) if (name.startsWith(POLICY) && !this.placed.has(name.slice(POLICY.length))) this.put(name, undefined)
    if (this.failed.size > 0) return
    if (this.troubled) this.options.onTrouble(undefined)
    this.troubled = false
  }

  private attempt(step: () => void): boolean {
    try {
      step()
      return true
    } catch (error) {
      this.trouble(error instanceof Error ? error : new Error(String(error)))
      return false
    }
  }

  private open(): void {
    if (this.opened) return
    mkdirSync(this.folder, { recursive: true, mode: 0o755 })
    this.readLast()
    this.attempt(() => this.mark.tellMore(this.writeMark))
    this.opened = true
    for (const name of this.hostsOf.keys()) this.publishPolicy(name)
    for (const host of this.byHost.keys()) this.publish(host)
  }

  private sweep(): void {
    if (this.swept) return
    let fault: Error | undefined
    // Routes before the policies that they name.
    for (const name of readdirSync(this.folder).sort((a, b) => Number(a.startsWith(POLICY)) - Number(b.startsWith(POLICY)))) {
      if (name === MARK || this.isOurs(name)) continue
      if (fault !== undefined && name.startsWith(POLICY)) break
      try {
        rmSync(join(this.folder, name), { force: true, recursive: true })
        this.written.delete(name)
        this.told(name, undefined)
      } catch (error) {
        fault = error as Error
      }
    }
    if (fault !== undefined) throw fault
    this.swept = true
  }

  private isOurs(name: string): boolean {
    if (!name.startsWith(POLICY)) return this.byHost.has(hostOf(name))
    const service = this.placed.get(name.slice(POLICY.length))
    return service !== undefined && policyOf(service) !== undefined
  }

  private trouble(error: Error): void {
    if (!this.troubled) this.options.onTrouble(error)
    this.troubled = true
    this.retryLater()
  }

  private retryLater(): void {
    if (this.stopped) return
    this.stopRetry ??= this.options.clock.later(RETRY_MS, () => {
      this.stopRetry = undefined
      this.retry()
    })
  }

  // What others wait for first: the mark and policies, wildcards, hosts, and at last what is nobody's any more.
  private retry(): void {
    if (this.opened) this.attempt(() => this.mark.tellMore(this.writeMark))
    const failed = [...this.failed]
    for (const name of failed) if (name.startsWith(POLICY)) this.retryPolicy(name)
    const hosts = [...new Set(failed.filter((name) => !name.startsWith(POLICY)).map(hostOf))]
    const rank = (host: string): number => (this.byHost.has(host) ? (isWildcard(host) ? 0 : 1) : 2)
    for (const host of hosts.sort((a, b) => rank(a) - rank(b))) this.publish(host)
    this.advance()
  }

  private retryPolicy(name: string): void {
    const service = name.slice(POLICY.length)
    // Of a service that is gone it goes when no route names it any more.
    if (this.placed.has(service)) this.publishPolicy(service)
    else this.failed.delete(name)
  }

  // What a process before this one left: names, contents, and which services were up.
  private readLast(): void {
    this.mark.read(join(this.folder, MARK))
    for (const entry of readdirSync(this.folder, { withFileTypes: true })) {
      const { name } = entry
      if (!entry.isFile() || !(POLICY_NAME.test(name) || isHost(hostOf(name)))) continue
      const content = this.readOne(name)
      if (content === undefined) continue
      for (const [, service] of content.matchAll(/(?:^|\s)1 (?:up|unhealthy) h[12] ([a-z0-9][a-z0-9-]{0,62}) /g)) this.expected.add(service!)
    }
  }

  /** What is left of a route or a policy, if it can be read; then it counts as written, unless its mode is to be another. */
  private readOne(name: string): string | undefined {
    const path = join(this.folder, name)
    try {
      const content = readFileSync(path, 'latin1')
      if (isShort(statSync(path).mode) !== isShort(modeOf(name, content))) return content
      this.written.set(name, content)
      this.told(name, content)
      return content
    } catch {
      return undefined
    }
  }
}

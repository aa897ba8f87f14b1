// A running gateway: puts the parts together in the order in which they need each other, and takes them apart again without losing a request.
import { mkdirSync } from 'node:fs'
import { errors } from '../protocol/errors.ts'
import { FIRST_CREDIT_BYTES } from '../protocol/limits.ts'
import { ready } from '../protocol/opaque.ts'
import { Control } from './control.ts'
import { Doors } from './doors.ts'
import { CHANNEL_KINDS, openEntrances } from './entrances.ts'
import { processEnvironment } from './environment.ts'
import { Gateway } from './gateway.ts'
import { IngressH1, type Report } from './ingress-h1.ts'
import { IngressH2 } from './ingress-h2.ts'
import type { Journal } from './journal.ts'
import { Live } from './live.ts'
import type { Log } from './log.ts'
import type { Member } from './member.ts'
import { PlainRoutes } from './plain-routes.ts'
import { RefusedAgents } from './refused-agents.ts'
import { Registry, type Witness } from './registry.ts'
import { Routes } from './routes.ts'
import { groupId, keptOf, type Settings } from './settings.ts'
import { type InheritedName, listen, type SocketPlaces } from './sockets.ts'

export interface RunOptions {
  readonly settings: Settings
  readonly version: string
  /** Sockets that whoever started us has opened, by name. */
  readonly fds: ReadonlyMap<InheritedName, number>
  readonly log: Log
  /** Something without which there is no gateway is gone. */
  onFatal(error: Error): void
}

export interface RunningGateway {
  /** Takes nothing new, lets requests under way end, closes. */
  stop(): Promise<void>
}

/** Starts a gateway; resolves when visitors and agents can come. */
export async function runGateway(options: RunOptions): Promise<RunningGateway> {
  const { settings, log } = options
  await ready
  const group = settings.socket_group === undefined ? undefined : groupId(settings.socket_group)
  // nginx's workers look into it, so it is everybody's to enter; what is in it has modes of its own.
  mkdirSync(settings.run_dir, { recursive: true, mode: 0o755 })
  const places: SocketPlaces = { runDir: settings.run_dir, fds: options.fds, groupId: group }
  const times = { heartbeatMs: settings.heartbeat_ms, deadAfterMs: settings.dead_after_ms, graceMs: settings.grace_ms, handshakeMs: settings.handshake_ms }
  const environment = processEnvironment(times, settings.budget_bytes)
  const start = { stateDir: settings.state_dir, publicUrl: settings.public_url, controlHosts: settings.control_hosts, version: options.version, kept: keptOf(settings), places }
  const control = await Control.open(start, environment.clock, {
    onDied: (error) => options.onFatal(error),
    onTrouble: (detail) => (detail === undefined ? log.info('store_written_again') : log.error('store_not_written', { detail })),
    onFault: (detail) => log.error('control_fault', { detail }),
  })
  if (control.firstToken !== undefined) log.info('admin_token', { token: control.firstToken, about: 'shown this once: for the control server on its hosts' })
  const directory = control.known
  const registry = new Registry({
    directory,
    environment,
    serverSetup: control.serverSetup,
    policy: settings.policy,
    lanes: settings.lanes_max_count,
    settings: { firstCredit: FIRST_CREDIT_BYTES, maxStreams: settings.streams_max_count },
    channels: CHANNEL_KINDS,
    witness: witnessOf(log, control.journal, new RefusedAgents(environment.clock, control.journal)),
  })
  const gateway = new Gateway({ environment, directory, registry, journal: control.journal, headTimeoutMs: settings.head_timeout_ms, agentWaitMs: settings.agent_wait_ms, drainMs: settings.drain_ms })
  const plain = new PlainRoutes(environment.clock)
  const routes = new Routes({
    runDir: settings.run_dir,
    directory,
    plain,
    presence: (service) => registry.serving.presence(service),
    clock: environment.clock,
    graceMs: settings.grace_ms,
    onTrouble: (error) => (error === undefined ? log.info('routes_written_again') : log.error('routes_not_written', { detail: error.message })),
    random: (bytes) => environment.random(bytes),
  })
  registry.serving.listenPresence(routes)
  registry.serving.listenPresence({ presenceChanged: (service, presence) => control.journal.happened(`service_${presence}`, `services/${service}`, 'gateway') })
  routes.start()

  const report: Report = (uuid, code, detail) => {
    if (code.fault !== 'nobody') log.warning('exchange_failed', { uuid, code: code.name, fault: code.fault, detail })
  }
  const h1 = new IngressH1(gateway.carry, plain, report)
  const h2 = new IngressH2(gateway.carry, plain, report)
  const doors = new Doors([h1.server, h2.server])
  const entrances = await openEntrances({ gatekeeper: registry, environment, settings, places, log })
  await listen(h1.server, 'ingress', places)
  await listen(h2.server, 'ingress-h2', places)
  await control.listen(new Live({ gateway, registry, routes, clock: environment.clock }))
  log.info('ready', { run_dir: settings.run_dir, public_url: settings.public_url, policy: settings.policy, inherited_sockets: options.fds.size })

  return {
    stop: async () => {
      log.info('leaving', { exchanges: gateway.underWay })
      h1.leave()
      h2.leave()
      const later = (ms: number): Promise<void> => new Promise((resolve) => void environment.clock.later(ms, resolve))
      await doors.leave({ idle: () => gateway.leave(), drainMs: settings.drain_ms, later })
      entrances.close()
      // The table stays as it is: visitors of a gateway that comes back at once wait for its agents instead of hearing that nobody serves them.
      routes.stop()
      registry.end(errors.gateway_leaving, errors.gateway_leaving.says)
      h1.destroy()
      h2.destroy()
      await control.close()
      log.info('left')
    },
  }
}

function witnessOf(log: Log, journal: Journal, refusedAgents: RefusedAgents): Witness {
  const who = (member: Member): { agent: string; session: string; peer: string } => ({ agent: member.agentId, session: member.session.id, peer: member.peer })
  const happened = (kind: string, member: Member, detail: Readonly<Record<string, string>> = {}): void => {
    journal.happened(kind, `agents/${member.agentId}`, `agent ${member.agentId}`, { session: member.session.id, peer: member.peer, ...detail })
  }
  return {
    sessionBegan: (member) => {
      log.info('session_began', who(member))
      happened('session_began', member)
    },
    sessionDetached: (member, reason) => {
      log.warning('session_detached', { ...who(member), reason })
      happened('session_detached', member, { reason })
    },
    sessionResumed: (member, over) => {
      log.info('session_resumed', { ...who(member), kind: over.kind, over: over.peer })
      happened('session_resumed', member, { kind: over.kind, over: over.peer })
    },
    sessionEnded: (member, code, detail) => {
      log.info('session_ended', { ...who(member), code: code.name, detail })
      happened('session_ended', member, { code: code.name, detail })
    },
    // Anybody can bring this about, without end: both count.
    refused: (peer, code, detail, agentId) => {
      log.stranger('agent_refused', { peer, code: code.name, detail })
      if (agentId !== undefined) refusedAgents.refused(peer, agentId, code)
    },
  }
}

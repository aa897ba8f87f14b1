// Both ends of a channel of each kind, joined through the gateway's real doorway, with a link between that can do them harm.
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Dial, DialOptions } from '../../agent/channel-dial.ts'
import { processEnvironment } from '../../agent/environment.ts'
import { dialHttp2 } from '../../agent/http2.ts'
import { dialLongPoll } from '../../agent/long-poll.ts'
import { dialPipe } from '../../agent/pipe.ts'
import { dialSse } from '../../agent/sse.ts'
import { dialTcp } from '../../agent/tcp.ts'
import { dialWebsocket } from '../../agent/websocket.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { AgentsDoor } from '../../sidecar/agents-door.ts'
import type { Entrance } from '../../sidecar/arrival.ts'
import { HttpChannels } from '../../sidecar/http-channels.ts'
import type { Strangers } from '../../sidecar/strangers.ts'
import { type Link, type LinkOptions, startLink } from '../harness/link.ts'
import { until } from '../harness/until.ts'

/** Where the agent's end goes: the port and the run directory lead to the same doorway. */
interface Door {
  readonly port: number
  readonly runDir: string
}

export interface Kind {
  readonly kind: string
  readonly dial: Dial
  readonly entrance: Entrance
  /** Between two polls there is no connection whose end tells the gateway of a cut; the silence does, later. */
  readonly silentCuts?: true
  /** What is dialed. */
  options(door: Door): Omit<DialOptions, 'userAgent'>
}

const PIPE = join(import.meta.dirname, '../../sidecar/main.ts')
const overHttp = ({ port }: Door): { gateway: string } => ({ gateway: `http://127.0.0.1:${String(port)}` })
const nowhere = 'http://127.0.0.1:1'
const overPort = ({ port }: Door): { gateway: string } => ({ gateway: `tcp://127.0.0.1:${String(port)}` })

/** Every channel there is, by the name of its tests. */
export const KINDS: Readonly<Record<string, Kind>> = {
  websocket: { kind: 'websocket', dial: dialWebsocket, entrance: 'socket', options: overHttp },
  'tcp by an upgrade': { kind: 'tcp', dial: dialTcp, entrance: 'socket', options: overHttp },
  'tcp at a port': { kind: 'tcp', dial: dialTcp, entrance: 'port', options: overPort },
  http2: { kind: 'http2', dial: dialHttp2, entrance: 'port', options: overPort },
  sse: { kind: 'sse', dial: dialSse, entrance: 'socket', options: overHttp },
  'long-poll': { kind: 'long-poll', dial: dialLongPoll, entrance: 'port', silentCuts: true, options: overPort },
  'pipe to a unix socket': { kind: 'pipe', dial: dialPipe, entrance: 'socket', options: ({ runDir }) => ({ gateway: nowhere, pipe: `unix:${runDir}/agents.sock` }) },
  'pipe to a command': { kind: 'pipe', dial: dialPipe, entrance: 'socket', options: ({ runDir }) => ({ gateway: nowhere, pipe: `'${process.execPath}' '${PIPE}' pipe --run-dir '${runDir}'` }) },
}

/** One end, and what it was told. */
export interface End {
  readonly carrier: Carrier
  readonly messages: Buffer[]
  readonly closed: string[]
  drains: number
}

export function watch(carrier: Carrier): End {
  const end: End = { carrier, messages: [], closed: [], drains: 0 }
  carrier.onMessage = (message) => end.messages.push(Buffer.from(message))
  carrier.onDrain = () => end.drains++
  carrier.onClosed = (reason) => end.closed.push(reason)
  return end
}

export interface Rig {
  /** Between the two. */
  readonly link: Link
  /** Every gateway's end that came, in order. */
  readonly came: readonly End[]
  /** Dials; resolves with both ends. */
  join(): Promise<{ agent: End; gateway: End }>
}

/** An nginx that is there already, and leads to the socket of a gateway in `runDir`. */
export interface Edge {
  readonly port: number
  readonly runDir: string
}

/** A doorway for one kind, behind an nginx if there is to be one, and a link before it all. */
export async function startRig(t: Test, kind: Kind, harm: Omit<LinkOptions, 'target' | 'at'> = {}, edge?: Edge): Promise<Rig> {
  const runDir = mkdtempSync(join(tmpdir(), 'postern-ends-'))
  const came: End[] = []
  // In place of the login: every carrier that the doorway makes is ours to look at.
  const strangers: Pick<Strangers, 'hasRoomFor' | 'admit' | 'admitOver'> = {
    hasRoomFor: () => true,
    admit: (carrier) => {
      came.push(watch(carrier))
      return { heard: () => false, left: () => undefined }
    },
    admitOver: (_socket, carrier) => void came.push(watch(carrier)),
  }
  const environment = processEnvironment({ heartbeatMs: 10_000, deadAfterMs: 25_000, graceMs: 30_000, handshakeMs: 10_000 })
  const door = new AgentsDoor({ entrance: kind.entrance, strangers, environment, takeRequest: new HttpChannels(strangers, environment).take })
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    door.take(socket)
  })
  await new Promise<void>((resolve) => server.listen(edge === undefined ? { port: 0, host: '127.0.0.1' } : { path: join(edge.runDir, 'agents.sock') }, resolve))
  const target = edge?.port ?? (server.address() as AddressInfo).port
  const link = await startLink(t, { ...harm, target, ...(kind.kind === 'pipe' ? { at: join(runDir, 'agents.sock') } : {}) })
  const agents: End[] = []
  t.teardown(() => {
    for (const { carrier } of [...agents, ...came]) carrier.abort()
    for (const socket of sockets) socket.destroy()
    server.close()
    door.close()
    rmSync(runDir, { recursive: true, force: true })
  })
  return {
    link,
    came,
    join: async () => {
      const before = came.length
      const agent = await new Promise<End>((resolve, reject) => {
        kind.dial({ ...kind.options({ port: link.port, runDir }), userAgent: 'test' }, (outcome) => ('reason' in outcome ? reject(new Error(outcome.detail)) : resolve(watch(outcome))))
      })
      agents.push(agent)
      // At some ways in a carrier is there with its first byte: so each says something first.
      const send = agent.carrier.send(Buffer.of(0))
      await until('the gateway has it', () => came.length > before && came[before]!.messages.length > 0)
      const gateway = came[before]!
      gateway.messages.length = 0
      if (!send) throw new Error('full at once')
      return { agent, gateway }
    },
  }
}

// The gateway's half of the wire in the test's own process: real logins over real websockets, sessions in the test's hands.
import { randomBytes } from 'node:crypto'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { processEnvironment } from '../../agent/environment.ts'
import { admit, type Gatekeeper } from '../../protocol/admit.ts'
import type { Carrier } from '../../protocol/channel.ts'
import { type AgentSays, ControlReader, encodeControl, type ServedService } from '../../protocol/control.ts'
import type { Environment } from '../../protocol/environment.ts'
import { errors } from '../../protocol/errors.ts'
import { encodeJoin } from '../../protocol/join.ts'
import type { Policy } from '../../protocol/messages.ts'
import { createServerSetup, decoy, publicKey, ready, register } from '../../protocol/opaque.ts'
import type { Session } from '../../protocol/session.ts'
import { NO_FIELDS, type Opening, type Stream, type StreamEvents, StreamKind } from '../../protocol/stream.ts'
import type { Ends } from '../harness/origin.ts'
import { until } from '../harness/until.ts'
import { AT_ONCE } from '../protocol/simulation.ts'
import { request } from './scripted.ts'

const SERVER_SETTINGS = { firstCredit: 65_536, maxStreams: 100 }

/** One exchange as the gateway sees it. */
export class Visit implements StreamEvents {
  status: string | undefined
  text = ''
  over = false
  failure: string | undefined
  stream: Stream | undefined
  onHead(fields: readonly string[], _extension: readonly string[], body: Uint8Array, ended: boolean): void {
    this.status = fields[1]
    this.over = ended
    this.onData(body)
  }
  onData(chunk: Uint8Array): void {
    this.text += Buffer.from(chunk).toString('latin1')
    this.stream?.consumed(chunk.length)
  }
  onEnd(): void {
    this.over = true
  }
  onStop(): void {}
  onReset(code: { readonly name: string }): void {
    this.failure = code.name
    this.over = true
  }
  onDrain(): void {}
}

export class Gate {
  readonly sessions: Session[] = []
  /** What each agent said it serves, the last word of each. */
  readonly serves: (readonly string[])[] = []
  /** All of that. */
  readonly says: AgentSays[] = []
  readonly refusals: string[] = []
  readonly sockets = new Set<WebSocket>()
  readonly peerDrains: Session[] = []
  controlStream: Stream | undefined
  /** It knows no session any more, as after a start. */
  forgets = false
  /** So many more logins come to it as if somebody had changed them on the way. */
  changedOnTheWay = 0
  /** It says of nothing that the agent says that it counts, as gateways did once. */
  saysNothingOfIt = false
  /** Every session that begins ends at once. */
  breaks = false
  services: ServedService[] = [{ name: 'demo', hosts: ['demo.example'] }]
  port = 0
  join = ''
  environment: Environment = processEnvironment()

  /** Opens an exchange with the newest session. */
  visit(service = 'demo', path = '/', ended = true): Visit {
    const visit = new Visit()
    const uuid = randomBytes(16).toString('hex')
    const opening: Opening = { kind: StreamKind.exchange, uuid, service, fields: request('GET', path), extension: NO_FIELDS, body: Buffer.alloc(0), ended }
    visit.stream = this.sessions.at(-1)!.open(opening, visit)
    if (visit.stream === undefined) throw new Error('the session takes no stream')
    return visit
  }

  async answered(visit: Visit): Promise<Visit> {
    await until('the exchange is over', () => visit.over)
    return visit
  }

  say(services: ServedService[]): void {
    this.controlStream!.write(encodeControl({ services }))
  }

  /** So much of what the agent says counts, and so many more streams than there were are on their way to it. */
  take(taken: number, onTheirWay = 0): void {
    this.controlStream!.write(encodeControl({ taken, opened: this.sessions.at(-1)!.openedCount + onTheirWay }))
  }

  cut(): void {
    for (const socket of this.sockets) socket.terminate()
  }
}

export async function startGate(t: Ends, options: { readonly policy?: Policy } = {}): Promise<Gate & { readonly stop: () => Promise<void> }> {
  await ready
  const gate = new Gate()
  const setup = createServerSetup()
  const secret = randomBytes(32).toString('base64url')
  const record = register(setup, 'an-agent', secret)
  const gatekeeper: Gatekeeper = {
    serverSetup: setup,
    decoyRecord: decoy(setup, secret),
    recordOf: (id) => (id === 'an-agent' && gate.changedOnTheWay-- <= 0 ? record : null),
    terms: () => ({
      policy: options.policy ?? 'always',
      lanes: 1,
      settings: SERVER_SETTINGS,
      terms: { services: gate.services, heartbeat_ms: 10_000, dead_after_ms: 25_000, grace_ms: 30_000, channels: ['websocket'] },
    }),
    sessionById: (id) => (gate.forgets ? undefined : gate.sessions.find((session) => session.id === id && !session.ended)),
    onSession: (session: Session) => {
      gate.sessions.push(session)
      if (gate.breaks) setImmediate(() => session.end(errors.gateway_leaving, 'at once'))
      session.events = {
        onOpen: (opening, stream) => (opening.kind === StreamKind.control ? controlEvents(gate, session, opening, stream) : errors.refused),
        onPeerDrain: () => void gate.peerDrains.push(session),
        onDetached: () => undefined,
        onAttached: () => undefined,
        onChannelLost: () => undefined,
        onStalled: () => undefined,
        onMove: () => undefined,
        onEnd: () => undefined,
      }
    },
    onChannel: () => undefined,
    onRefused: (_carrier, code) => void gate.refusals.push(code.name),
  }
  const server = http.createServer((_request, response) => response.writeHead(404).end())
  const sockets = new WebSocketServer({ server, path: '/_postern/channel', perMessageDeflate: false })
  sockets.on('connection', (socket) => {
    gate.sockets.add(socket)
    admit(carrierOver(socket, () => gate.sockets.delete(socket)), gatekeeper, AT_ONCE, gate.environment)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  gate.port = (server.address() as AddressInfo).port
  gate.join = encodeJoin({ url: `http://127.0.0.1:${String(gate.port)}`, id: 'an-agent', secret, key: publicKey(setup) })
  const stop = async (): Promise<void> => {
    for (const session of gate.sessions) session.end(errors.gateway_leaving, 'the test is over')
    gate.cut()
    sockets.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  t.teardown(stop)
  return Object.assign(gate, { stop })
}

function controlEvents(gate: Gate, session: Session, opening: Opening, stream: Stream): StreamEvents {
  const reader = new ControlReader()
  let taken = 0
  gate.controlStream = stream
  stream.sendHead(NO_FIELDS, undefined, false)
  const take = (chunk: Uint8Array): void => {
    stream.consumed(chunk.length)
    for (const message of reader.push(chunk)) if ('serves' in message) {
      gate.serves.push(message.serves)
      gate.says.push(message)
      taken++
      if (!gate.saysNothingOfIt) stream.write(encodeControl({ taken, opened: session.openedCount }))
    }
  }
  take(opening.body)
  const nothing = (): void => undefined
  return { onHead: nothing, onData: take, onEnd: nothing, onStop: nothing, onReset: nothing, onDrain: nothing }
}

function carrierOver(socket: WebSocket, gone: () => void): Carrier {
  const carrier: Carrier = {
    kind: 'websocket',
    peer: 'test',
    worker: 0,
    send: (message) => {
      socket.send(message)
      return true
    },
    close: () => socket.close(),
    abort: () => socket.terminate(),
    onMessage: () => undefined,
    onDrain: () => undefined,
    onClosed: () => undefined,
  }
  socket.on('message', (data) => carrier.onMessage(data as Buffer))
  socket.on('error', () => undefined)
  socket.on('close', () => {
    gone()
    carrier.onClosed('closed')
  })
  return carrier
}

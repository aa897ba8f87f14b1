// The gateway's unix sockets: bound with their modes and group, or inherited from whoever started it (sd_listen_fds(3)), as its ports may be.
import { chmodSync, chownSync, rmSync } from 'node:fs'
import { connect, type Server } from 'node:net'
import { join } from 'node:path'

/** File names in the run directory and their modes; without `.sock` they are the names of inherited ones. */
export const SOCKETS = { ingress: 0o660, 'ingress-h2': 0o660, agents: 0o660, control: 0o600, admin: 0o660 } as const
export type SocketName = keyof typeof SOCKETS
/** Names of inherited sockets that are ports of the gateway's own. */
const PORTS = ['agents-port', 'agents-tls-port'] as const
export type InheritedName = SocketName | (typeof PORTS)[number]
const INHERITED: readonly string[] = [...Object.keys(SOCKETS), ...PORTS]

/** sd_listen_fds(3): inherited descriptors begin here. */
const FIRST_FD = 3
/** Connections that wait while a gateway restarts; beyond them nginx is refused. Linux takes no more than net.core.somaxconn, which is this by default. */
const BACKLOG_COUNT = 4_096

/** Descriptors by name. Empty unless they are meant for this process. Throws an Error when they can't be told apart. */
export function inherited(env: Readonly<Record<string, string | undefined>>, pid: number): Map<InheritedName, number> {
  const fds = new Map<InheritedName, number>()
  if (env.LISTEN_FDS === undefined || env.LISTEN_PID !== String(pid)) return fds
  const names = (env.LISTEN_FDNAMES ?? '').split(':')
  for (let i = 0; i < Number(env.LISTEN_FDS); i++) {
    const name = names[i] ?? ''
    if (!INHERITED.includes(name)) throw new Error(`an inherited socket is named "${name}", none of ${INHERITED.join(', ')}`)
    fds.set(name as InheritedName, FIRST_FD + i)
  }
  return fds
}

export interface SocketPlaces {
  readonly runDir: string
  readonly fds: ReadonlyMap<InheritedName, number>
  /** Who may connect where the mode lets a group. */
  readonly groupId: number | undefined
}

/** Makes `server` listen. A file that nobody listens on is removed first; where somebody does, it throws an Error. */
export async function listen(server: Server, name: SocketName, places: SocketPlaces): Promise<void> {
  const fd = places.fds.get(name)
  if (fd !== undefined) return bind(server, { fd })
  const path = join(places.runDir, `${name}.sock`)
  if (await answered(path)) throw new Error(`${path}: another process listens there`)
  rmSync(path, { force: true })
  await bind(server, { path })
  if (places.groupId !== undefined && SOCKETS[name] === 0o660) chownSync(path, -1, places.groupId)
  chmodSync(path, SOCKETS[name])
}

function bind(server: Server, where: { path: string } | { fd: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ ...where, backlog: BACKLOG_COUNT }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function answered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

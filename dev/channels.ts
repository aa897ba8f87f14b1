// What each kind of channel takes on one machine: how the agent's command is told of it, and where it finds the gateway.
import { join } from 'node:path'

const GATEWAY = join(import.meta.dirname, '../sidecar/main.ts')

/** Where agents come in, beside the nginx that the join string names. */
export interface Entrances {
  /** The gateway's run directory. */
  readonly runDir: string
  /** A port of an nginx that speaks HTTP/2 without TLS: the one for visitors can't speak both on one port before 1.25. */
  readonly http2Port?: number
  /** The gateway's own port. */
  readonly ownPort?: number
}

/** The arguments for `postern` that choose `kind`; `tcp straight` is tcp at the gateway's own port. What it does not know it gives on: the command says so. */
export function channelArguments(kind: string, entrances: Entrances): string[] {
  switch (kind) {
    case 'http2':
      return ['--channel', kind, '--gateway', `http://127.0.0.1:${String(entrances.http2Port)}`]
    case 'tcp straight':
      return ['--channel', 'tcp', '--gateway', `tcp://127.0.0.1:${String(entrances.ownPort)}`]
    case 'pipe':
      return ['--pipe', `"${process.execPath}" "${GATEWAY}" pipe --run-dir "${entrances.runDir}"`]
    default:
      return ['--channel', kind]
  }
}

/** A server for {@link Entrances.http2Port}; `folder` holds the includes. */
export function http2Server(folder: string, port: number): string {
  return `  server {
    listen 127.0.0.1:${String(port)} http2;
    include ${folder}/postern-agents.conf;
  }`
}

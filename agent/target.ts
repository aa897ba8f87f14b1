// Targets as people type them: a port, host and port, a URL, a unix socket; and what is wrong with those that are none.

/** Where an origin listens. */
export interface Target {
  /** `http://localhost:3000`; what stands in for the host of a unix socket is `localhost`. */
  readonly origin: string
  readonly tls: boolean
  readonly hostname: string
  readonly port: number
  /** A unix socket or a Windows pipe; hostname and port are not used then. */
  readonly socketPath: string | undefined
  /** For people. */
  readonly text: string
}

/** Says what is wrong with a target, with an example of a right one. */
export class TargetError extends Error {
  constructor(text: string, wrong: string) {
    super(`${JSON.stringify(text)} is no target: ${wrong}`)
    this.name = 'TargetError'
  }
}

const EXAMPLES = 'write 3000, host:9000, https://localhost:8443 or unix:/path'
const UNIX = 'unix:'
/** Windows has no unix sockets that Node can dial, only pipes. */
const PIPE = /^\\\\[.?]\\pipe\\/i

/** Reads what somebody typed. `platform` as process.platform. Throws a {@link TargetError}. */
export function parseTarget(typed: string, platform: NodeJS.Platform): Target {
  const text = typed.trim()
  if (text === '') throw new TargetError(typed, `it is empty; ${EXAMPLES}`)
  if (text.startsWith(UNIX)) return unixTarget(text, platform)
  if (/^:?\d+$/.test(text)) return urlTarget(typed, `http://localhost:${text.replace(':', '')}`)
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase()
  if (scheme === undefined) {
    if (!/:\d+$/.test(text)) throw new TargetError(typed, `it has no port; ${EXAMPLES}`)
    return urlTarget(typed, `http://${text}`)
  }
  if (scheme !== 'http' && scheme !== 'https') throw new TargetError(typed, `only http and https can be served, not ${scheme}`)
  return urlTarget(typed, text)
}

function unixTarget(text: string, platform: NodeJS.Platform): Target {
  const path = text.slice(UNIX.length)
  if (platform === 'win32' && !PIPE.test(path)) throw new TargetError(text, 'Windows has named pipes instead; write unix:\\\\.\\pipe\\NAME')
  if (platform !== 'win32' && !path.startsWith('/')) throw new TargetError(text, 'the path of a socket begins with /')
  if (path.includes('\0')) throw new TargetError(text, 'a path holds no NUL')
  return { origin: 'http://localhost', tls: false, hostname: 'localhost', port: 80, socketPath: path, text }
}

function urlTarget(typed: string, text: string): Target {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    const port = /:(\d+)\/?$/.exec(text)?.[1]
    throw new TargetError(typed, port !== undefined && Number(port) > 65_535 ? `a port is at most 65535` : `host or port can not be read; ${EXAMPLES}`)
  }
  if (url.username !== '' || url.password !== '') throw new TargetError(typed, 'a name and password do not belong here: visitors bring their own')
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') throw new TargetError(typed, 'a path does not belong here: that of each request is passed on as it came')
  if (url.port === '0') throw new TargetError(typed, 'port 0 is none')
  const tls = url.protocol === 'https:'
  const port = url.port === '' ? (tls ? 443 : 80) : Number(url.port)
  return { origin: url.origin, tls, hostname: url.hostname.replace(/^\[|\]$/g, ''), port, socketPath: undefined, text: url.origin }
}

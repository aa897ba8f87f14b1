// The local socket by which a running agent tells its own user what it does: one JSON document for whoever connects, then it is closed.
import { lstatSync, mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'

/** Where the sockets of a user's agents are: the folder, and how their names begin. */
export interface SocketPlace {
  readonly folder: string
  readonly prefix: string
}

/** What of a process decides about that. */
export interface Whose {
  readonly platform: NodeJS.Platform
  readonly runtimeDir: string | undefined
  readonly temporary: string
  /** A number where there are such, else a name. */
  readonly user: string
}

/** A document is some kilobytes; what says more is no agent. */
const DOCUMENT_MAX_BYTES = 1_048_576
/** An agent answers at once, unless it is stopped or drowned in work. */
const ANSWER_MS = 2_000
/** More agents of one user on a machine than anybody reads of. */
const SOCKETS_MAX_COUNT = 1_000
const OTHERS = 0o077

export function socketPlace({ platform, runtimeDir, temporary, user }: Whose): SocketPlace {
  if (platform === 'win32') return { folder: '\\\\.\\pipe\\', prefix: `postern-${user}-` }
  return { folder: runtimeDir === undefined || runtimeDir === '' ? join(temporary, `postern-${user}`) : join(runtimeDir, 'postern'), prefix: 'agent-' }
}

const pathOf = ({ folder, prefix }: SocketPlace, name: string): string => (folder.startsWith('\\\\') ? `${folder}${prefix}${name}` : join(folder, `${prefix}${name}.sock`))

/** Answers there until the function returned is called. Where there is no such place, or it is not ours alone, nobody is answered: an agent serves all the same. */
export function answerStatus(place: SocketPlace, name: string, document: () => object): () => void {
  const server = net.createServer((socket) => {
    // Whoever asks and does not go keeps nothing busy.
    socket.unref().resume().setTimeout(ANSWER_MS, () => socket.destroy())
    socket.on('error', () => undefined)
    socket.end(`${JSON.stringify(document())}\n`)
  })
  server.on('error', () => undefined)
  // Nobody but the agent's own work keeps its process alive.
  server.unref()
  const path = pathOf(place, name)
  if (makeOwnFolder(place.folder)) {
    // Of an agent that had our number before us, and was killed.
    if (!path.startsWith('\\\\')) remove(path)
    server.listen(path)
  }
  return () => {
    // Takes the socket's file away at once.
    server.close()
    leaveFolder(place.folder)
  }
}

/** The last agent of a user leaves nothing behind. */
function leaveFolder(folder: string): void {
  try {
    rmdirSync(folder)
  } catch {
    // Others are in it, or it is none of ours.
  }
}

/** Anybody may make folders where temporary files are: in one of somebody else's, they would read and replace what is ours. */
function makeOwnFolder(folder: string): boolean {
  if (folder.startsWith('\\\\')) return true
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    return isOwnFolder(folder)
  } catch {
    return false
  }
}

function isOwnFolder(folder: string): boolean {
  const found = lstatSync(folder)
  return found.isDirectory() && found.uid === process.getuid?.() && (found.mode & OTHERS) === 0
}

function remove(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // It was none, or is nobody's to remove.
  }
}

/** What every agent there says. Sockets whose agents are gone are removed. */
export async function askAgents(place: SocketPlace): Promise<object[]> {
  let names: string[]
  try {
    if (!place.folder.startsWith('\\\\') && !isOwnFolder(place.folder)) return []
    names = readdirSync(place.folder).filter((name) => name.startsWith(place.prefix)).slice(0, SOCKETS_MAX_COUNT)
  } catch {
    return []
  }
  const answers = await Promise.all(names.map((name) => ask(`${place.folder}${place.folder.endsWith('\\') ? '' : '/'}${name}`)))
  return answers.filter((answer) => answer !== undefined)
}

function ask(path: string): Promise<object | undefined> {
  return new Promise((resolve) => {
    const socket = net.connect(path)
    let text = ''
    socket.setEncoding('utf8')
    socket.setTimeout(ANSWER_MS, () => socket.destroy())
    socket.on('data', (chunk: string) => {
      text += chunk
      if (text.length > DOCUMENT_MAX_BYTES) socket.destroy()
    })
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'ECONNREFUSED') remove(path)
    })
    socket.on('close', () => resolve(parse(text)))
  })
}

function parse(text: string): object | undefined {
  try {
    const value = JSON.parse(text) as unknown
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

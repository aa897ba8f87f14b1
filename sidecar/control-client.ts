// How the command line reaches the control server: over control.sock while the gateway runs, by opening the store itself while none does.
import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import { join } from 'node:path'
import { createServerSetup, ready } from '../protocol/opaque.ts'
import type { Settings } from './settings.ts'

/** What a resource answered. */
export interface Reply {
  readonly status: number
  readonly body: unknown
}

export type Call = (method: string, path: string, body?: unknown) => Promise<Reply>

/** The gateway did not answer in time, or answered nothing that is JSON: exit code 4. */
export class UnreachableError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UnreachableError'
  }
}

const ANSWER_TIMEOUT_MS = 30_000
const ANSWER_MAX_BYTES = 64 * 1024 * 1024
/** Nobody listens, and so no gateway runs. */
const NOBODY: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED'])

/** Runs `use` with a way to call the resources, and closes that way. */
export async function withControl<T>(settings: Settings, version: string, use: (call: Call) => Promise<T>): Promise<T> {
  const socketPath = join(settings.run_dir, 'control.sock')
  try {
    await overSocket(socketPath, 'GET', '/v1/health')
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOBODY.has(String(error.code))) return withStore(settings, version, use)
    throw error instanceof UnreachableError ? error : new UnreachableError(`${socketPath}: ${String(error)}`)
  }
  return use(async (method, path, body) => {
    try {
      return await overSocket(socketPath, method, path, body)
    } catch (error) {
      throw error instanceof UnreachableError ? error : new UnreachableError(`${socketPath}: the gateway went while it was asked (${String(error)})`)
    }
  })
}

async function withStore<T>(settings: Settings, version: string, use: (call: Call) => Promise<T>): Promise<T> {
  // Loaded only here: a command that talks to a gateway needs neither a database nor a server.
  const [{ createControlApp }, { Store }] = await Promise.all([import('./control-app.ts'), import('./store.ts'), ready])
  const store = new Store(settings.state_dir)
  let fault: Error | undefined
  const app = createControlApp({
    store,
    serverSetup: store.setting('opaque_server_setup', createServerSetup),
    publicUrl: settings.public_url,
    version,
    random: (bytes) => randomBytes(bytes),
    // Nobody runs who had to be told: the gateway reads the store when it starts.
    publish: () => Promise.resolve(),
    live: () => Promise.resolve({ ready: false, waits_for: ['the gateway does not run'], exchanges: 0, sessions: [] }),
    // That the store can't be written is in the answer too.
    onTrouble: () => undefined,
    onFault: (error) => (fault = error),
  })
  try {
    return await use(async (method, path, body) => {
      const answer = await app.inject({ method: method as 'GET', url: path, ...(body === undefined ? {} : { payload: body as object }) })
      if (fault !== undefined) throw fault
      return { status: answer.statusCode, body: answer.body === '' ? undefined : answer.json<unknown>() }
    })
  } finally {
    await app.close()
    store.close()
  }
}

function overSocket(socketPath: string, method: string, path: string, body?: unknown): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const headers = payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
    const asked = request({ socketPath, method, path, headers, timeout: ANSWER_TIMEOUT_MS }, (response) => {
      const parts: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        parts.push(chunk)
        bytes += chunk.length
        if (bytes > ANSWER_MAX_BYTES) asked.destroy(new UnreachableError('the answer of the gateway has no end'))
      })
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(parts).toString('utf8')
        try {
          resolve({ status: response.statusCode!, body: text === '' ? undefined : (JSON.parse(text) as unknown) })
        } catch {
          reject(new UnreachableError('what answers on control.sock is no gateway'))
        }
      })
    })
    asked.on('timeout', () => asked.destroy(new UnreachableError(`the gateway did not answer within ${String(ANSWER_TIMEOUT_MS / 1_000)} s`)))
    asked.on('error', reject)
    asked.end(payload)
  })
}

// How the command line reaches the control server: over control.sock while the gateway runs, by opening the store itself while none does.
import { randomBytes } from 'node:crypto'
import { createWriteStream, rmSync } from 'node:fs'
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createServerSetup, ready } from '../protocol/opaque.ts'
import { keptOf, type Settings } from './settings.ts'

/** What a resource answered. */
export interface Reply {
  readonly status: number
  readonly body: unknown
  readonly headers: Readonly<Record<string, unknown>>
}

export interface Control {
  readonly call: (method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>) => Promise<Reply>
  /** Gives each event of a feed to `take`, one after the other, until that says false; or returns why there is no feed. */
  readonly follow: (path: string, take: (event: string, data: unknown) => Promise<boolean>) => Promise<Reply>
  /** Writes what is read there to a new file for its owner alone. */
  readonly save: (path: string, file: string) => Promise<void>
}

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
export async function withControl<T>(settings: Settings, version: string, use: (control: Control) => Promise<T>): Promise<T> {
  const socketPath = join(settings.run_dir, 'control.sock')
  try {
    await overSocket(socketPath, 'GET', '/v1/health')
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOBODY.has(String(error.code))) return withStore(settings, version, use)
    throw error instanceof UnreachableError ? error : new UnreachableError(`${socketPath}: ${String(error)}`)
  }
  const went = (error: unknown): Error => {
    return error instanceof UnreachableError ? error : new UnreachableError(`${socketPath}: the gateway went while it was asked (${String(error)})`)
  }
  return use({
    call: async (method, path, body, headers) => {
      try {
        return await overSocket(socketPath, method, path, body, headers)
      } catch (error) {
        throw went(error)
      }
    },
    follow: async (path, take) => {
      try {
        const answer = await ask(socketPath, 'GET', path, undefined, {})
        if (answer.statusCode !== 200) return await read(answer)
        // Whoever reads what is printed may let us wait for as long as it likes.
        answer.socket.setTimeout(0)
        for await (const { event, data } of eventsOf(answer)) if (!(await take(event, data))) return { status: 200, body: undefined, headers: answer.headers }
      } catch (error) {
        throw went(error)
      }
      throw went('its feed ended')
    },
    save: async (path, file) => {
      let answer: IncomingMessage
      try {
        answer = await ask(socketPath, 'GET', path, undefined, {})
      } catch (error) {
        throw went(error)
      }
      if (answer.statusCode !== 200) throw new Error(`${file} is not written: ${String((await read(answer)).body)}`)
      await write(answer, file)
    },
  })
}

// Half of it is not left: whoever finds the file may take it for whole.
async function write(from: NodeJS.ReadableStream, file: string): Promise<void> {
  const to = createWriteStream(file, { flags: 'wx', mode: 0o600 })
  let made = false
  to.once('open', () => (made = true))
  try {
    await pipeline(from, to)
  } catch (error) {
    if (made) rmSync(file, { force: true })
    throw error
  }
}

async function withStore<T>(settings: Settings, version: string, use: (control: Control) => Promise<T>): Promise<T> {
  // Loaded only here: a command that talks to a gateway needs neither a database nor a server.
  const [{ createControlApp }, { Store }, { farFrom, NO_GATEWAY, answer }] = await Promise.all([import('./control-app.ts'), import('./store.ts'), import('./control-live.ts'), ready])
  const store = new Store(settings.state_dir)
  let fault: Error | undefined
  const { app } = await createControlApp({
    store,
    serverSetup: store.setting('opaque_server_setup', createServerSetup),
    publicUrl: settings.public_url,
    controlHosts: settings.control_hosts,
    version,
    kept: keptOf(settings),
    // The time of day: whoever runs a command reads it once.
    now: Date.now,
    random: (bytes) => randomBytes(bytes),
    // Nobody runs who had to be told: the gateway reads the store when it starts.
    publish: () => Promise.resolve(),
    live: farFrom((question) => Promise.resolve(answer(NO_GATEWAY, question))),
    // That the store can't be written is in the answer too.
    onTrouble: () => undefined,
    onFault: (error) => (fault = error),
  })
  try {
    return await use({
      call: async (method, path, body, headers = {}) => {
        const answer = await app.inject({ method: method as 'GET', url: path, headers, ...(body === undefined ? {} : { payload: body as object }) })
        if (fault !== undefined) throw fault
        return { status: answer.statusCode, body: answer.body === '' ? undefined : answer.json<unknown>(), headers: answer.headers }
      },
      follow: () => Promise.reject(new UnreachableError('no gateway runs here that could be followed')),
      save: (_path, file) => Promise.resolve(store.backup(file)),
    })
  } finally {
    await app.close()
    store.close()
  }
}

async function overSocket(socketPath: string, method: string, path: string, body?: unknown, headers: IncomingHttpHeaders = {}): Promise<Reply> {
  return read(await ask(socketPath, method, path, body, headers))
}

function ask(socketPath: string, method: string, path: string, body: unknown, more: IncomingHttpHeaders): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const headers = payload === undefined ? more : { ...more, 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }
    const asked = request({ socketPath, method, path, headers, timeout: ANSWER_TIMEOUT_MS }, resolve)
    asked.on('timeout', () => asked.destroy(new UnreachableError(`the gateway did not answer within ${String(ANSWER_TIMEOUT_MS / 1_000)} s`)))
    asked.on('error', reject)
    asked.end(payload)
  })
}

async function read(response: IncomingMessage): Promise<Reply> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    parts.push(chunk)
    bytes += chunk.length
    if (bytes > ANSWER_MAX_BYTES) throw new UnreachableError(`the gateway’s answer is larger than ${String(ANSWER_MAX_BYTES)} bytes`)
  }
  const text = Buffer.concat(parts).toString('utf8')
  try {
    return { status: response.statusCode!, body: text === '' ? undefined : (JSON.parse(text) as unknown), headers: response.headers }
  } catch {
    throw new UnreachableError('what answers on control.sock is no gateway')
  }
}

/** The events of a feed, which has JSON in each on one line. */
async function* eventsOf(feed: IncomingMessage): AsyncGenerator<{ readonly event: string; readonly data: unknown }> {
  let text = ''
  for await (const part of feed.setEncoding('utf8') as AsyncIterable<string>) {
    const blocks = (text + part).split('\n\n')
    text = blocks.pop()!
    if (text.length > ANSWER_MAX_BYTES) throw new UnreachableError(`an event of the gateway is larger than ${String(ANSWER_MAX_BYTES)} bytes`)
    for (const block of blocks) {
      const [, event, data] = /^event: (.*)\ndata: (.*)$/m.exec(block) ?? []
      if (event !== undefined && data !== undefined) yield { event, data: JSON.parse(data) as unknown }
    }
  }
}

// `npm run demo`: all parts of Postern on this machine, publishing a sample service or an origin of one's own, until Ctrl-C; then nothing of it is left.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { channelArguments, http2Server } from './channels.ts'
import { edgeParts } from './edge.ts'
import { freePort } from './free-port.ts'
import { startNginx } from './nginx.ts'
import { accepts, Processes } from './processes.ts'
import { startSampleService } from './sample-service.ts'
import { startAgent, startGateway } from './stack.ts'

const USAGE = `usage: npm run demo [-- OPTIONS]
  --origin URL       publish this HTTP service instead of the sample
  --host NAME        the public hostname (default demo.localhost)
  --port N           nginx's port on 127.0.0.1 (default 8080)
  --policy WORD      payload sealed: always or never (default always)
  --channel KIND     how the agent gets out: websocket, http2, tcp, sse, long-poll or pipe (default: as it chooses)
  --proxy URL        through which proxy; a pipe goes through none
  --connections N    over how many channels at once (default 1)
  --help             this`

/** The exit code of Postern's commands, and of this one, for what was said wrong on the command line. */
const USAGE_CODE = 2

interface Options {
  origin: string | undefined
  host: string
  port: number
  policy: 'always' | 'never'
  /** How the agent gets out; undefined: as it chooses. */
  channel: string | undefined
  /** What only the agent knows: given on to its command, which says what it does not do. */
  agent: string[]
}

/** Undefined: what the options are was asked. */
function readOptions(argv: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      origin: { type: 'string' }, host: { type: 'string' }, port: { type: 'string' }, channel: { type: 'string' },
      proxy: { type: 'string' }, connections: { type: 'string' }, policy: { type: 'string' }, help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help === true) return undefined
  const port = Number(values.port ?? 8080)
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new Error('--port takes a number from 1 to 65535')
  const connections = Number(values.connections ?? 1)
  if (!Number.isInteger(connections) || connections < 1) throw new Error('--connections takes a whole number of at least 1')
  if (values.origin !== undefined && !URL.canParse(values.origin)) throw new Error('--origin takes a URL, such as http://127.0.0.1:3000')
  if (values.channel === 'pipe' && values.proxy !== undefined) throw new Error('--channel pipe goes through no --proxy')
  const host = (values.host ?? 'demo.localhost').toLowerCase()
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(host)) throw new Error('--host takes a hostname, such as app.localhost')
  const policy = values.policy ?? 'always'
  if (policy !== 'always' && policy !== 'never') throw new Error('--policy takes always or never')
  return {
    origin: values.origin,
    host,
    port,
    policy,
    channel: values.channel,
    agent: [
      ...(values.proxy === undefined ? [] : ['--proxy', values.proxy]),
      ...(connections === 1 ? [] : ['--connections', String(connections)]),
    ],
  }
}

async function demo(options: Options): Promise<void> {
  if (await accepts({ port: options.port })) {
    console.error(`something listens on port ${String(options.port)} already: choose another with --port`)
    process.exit(1)
  }
  const dir = mkdtempSync(join(tmpdir(), 'postern-demo-'))
  const processes = new Processes()
  const sample = options.origin === undefined ? await startSampleService() : undefined

  // The one way out: from a signal, a death among the parts, or a start that failed.
  let leaving: Promise<never> | undefined
  const leave = (code: number): Promise<never> => (leaving ??= processes.stopAll().then(() => {
    sample?.stop()
    rmSync(dir, { recursive: true, force: true })
    process.exit(code)
  }))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void leave(0))
  // A terminal that closed, a reader of a pipe that left: there is nobody to show anything to.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => void leave(1))
  process.on('uncaughtException', (error) => {
    console.error(error)
    void leave(1)
  })
  processes.onDeath = (dead, how, code) => {
    console.error(`${dead.name} ended by itself (${how})${dead.shown ? '' : `; its log:\n${dead.log()}`}`)
    void leave(code === USAGE_CODE ? USAGE_CODE : 1)
  }

  try {
    const show = (name: string) => (line: string): void => console.log(`${name.padEnd(7)} ${line}`)
    const url = `http://127.0.0.1:${String(options.port)}`
    const gateway = await startGateway(processes, { dir, publicUrl: url, policy: options.policy, show: show('gateway') })
    mkdirSync(join(dir, 'nginx'))
    const http2Port = options.channel === 'http2' ? await freePort() : undefined
    const { main, http } = await edgeParts(join(dir, 'edge'), gateway.runDir, options.port)
    const servers = http2Port === undefined ? http : `${http}\n${http2Server(join(dir, 'edge'), http2Port)}`
    await startNginx(processes, 'nginx', { dir: join(dir, 'nginx'), port: options.port, accessLog: true, main, http: servers })
    const chosen = options.channel === undefined ? [] : channelArguments(options.channel, { runDir: gateway.runDir, ...(http2Port === undefined ? {} : { http2Port }) })
    await startAgent(processes, gateway, {
      id: 'demo', service: 'demo', host: options.host, target: options.origin ?? `http://127.0.0.1:${String(sample?.port)}`,
      more: [...chosen, ...options.agent], show: show('agent'),
    })
  } catch (error) {
    if (leaving === undefined) console.error(error instanceof Error ? error.message : error)
    await leave(1)
  }
  const address = `http://${options.host}:${String(options.port)}/`
  console.log(`\nA browser or curl finds the service at ${address}`)
  if (!options.host.endsWith('localhost')) console.log(`(no name of this machine? curl --header 'Host: ${options.host}' http://127.0.0.1:${String(options.port)}/)`)
  console.log('Ctrl-C stops everything and leaves nothing behind.')
  console.log(`ready ${address}`)
}

let options: Options | undefined
try {
  options = readOptions(process.argv.slice(2))
} catch (error) {
  console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`)
  process.exit(USAGE_CODE)
}
if (options === undefined) console.log(USAGE)
else await demo(options)

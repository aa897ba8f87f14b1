// A real nginx with Postern's includes for a test: Debian's own or the newest (dev/nginx-new.sh), in a folder of its own, its log checked at the end.
import { execFile, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { prepareEdge } from '../../dev/edge.ts'
import { freePort } from '../../dev/free-port.ts'
import { until } from './until.ts'

const ROOT = join(import.meta.dirname, '../..')
const NEW = join(ROOT, '.nginx-new')
const exec = promisify(execFile)

/** `debian`: the machine's own, `new`: the one that dev/nginx-new.sh fetched. */
export type Binary = 'debian' | 'new'

export interface NginxOptions {
  /** The gateway's run directory: its sockets and route files. */
  readonly runDir: string
  /** The whole server's inside, instead of the includes and a location / that serves visitors. `EDGE` in it is the folder of the includes. */
  readonly server?: string
  /** More directives for http {}. */
  readonly http?: string
  /** Paths of further modules. */
  readonly modules?: readonly string[]
  /** Directives outside of http {}. */
  readonly main?: string
  readonly binary?: Binary
  /** Lines of its log at level error or above that the test brings about. */
  readonly expected?: readonly RegExp[]
  readonly workers?: number
  /** A free one, if it is not said. */
  readonly port?: number
  /** Whom root's workers run as, instead of root: who may read what they need is then to be seen to. */
  readonly user?: string
}

export interface RunningNginx {
  readonly port: number
  readonly url: string
  readonly pid: number
  /** Where it keeps its files; `access.log` is one. */
  readonly dir: string
  logs(): string
  /** New workers with the configuration as it stands in the file; resolves when they have started. */
  reload(): Promise<void>
  stop(): Promise<void>
}

/** As docs/nginx.md has it. */
const DEFAULT_SERVER = `large_client_header_buffers 4 64k;
    error_page 494 =431 @postern_refuse;
    include EDGE/postern-server.conf;
    include EDGE/postern-agents.conf;
    location / { client_max_body_size 0; try_files "" $postern_location; }`

/** Why a binary can't be used here, or undefined. */
export function missing(binary: Binary): string | undefined {
  return binary === 'debian' || existsSync(join(NEW, 'version')) ? undefined : 'no newer nginx here: sh dev/nginx-new.sh fetches it where it can be had'
}

function command(binary: Binary): readonly [string, ...string[]] {
  return binary === 'debian' ? ['nginx'] : [join(NEW, 'ld.so'), '--library-path', join(NEW, 'lib'), join(NEW, 'nginx')]
}

/** Where a module of this nginx is, if it is there: a file name as `ngx_stream_module.so`. */
export async function modulePath(binary: Binary, name = 'ngx_http_js_module.so'): Promise<string> {
  if (binary === 'new') return join(NEW, name)
  const { stderr } = await exec('nginx', ['-V'])
  return join(/--modules-path=(\S+)/.exec(stderr)?.[1] ?? 'modules', name)
}

/** Then the workers are root, too, if nobody says otherwise: the folders of a test are its own alone. */
const asRoot = process.getuid?.() === 0

/** `nginx -t` of a whole configuration: rejects with what nginx says. */
export async function checkConfiguration(binary: Binary, prefix: string, file: string): Promise<string> {
  const [program, ...first] = command(binary)
  const { stderr } = await exec(program, [...first, '-t', '-p', prefix, '-c', file, '-e', 'stderr', '-g', `load_module ${await modulePath(binary)};`])
  return stderr
}

export async function startNginx(t: Pick<Test, 'teardown' | 'fail'>, options: NginxOptions): Promise<RunningNginx> {
  const binary = options.binary ?? 'debian'
  const dir = mkdtempSync(join(tmpdir(), 'postern-nginx-'))
  chmodSync(dir, 0o755)
  const edge = join(dir, 'edge')
  await prepareEdge(edge, options.runDir)
  const port = options.port ?? (await freePort())
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${dir}/${kind};`).join(' ')
  writeFileSync(join(dir, 'nginx.conf'), `${asRoot ? `user ${options.user ?? 'root'};` : ''}
load_module ${await modulePath(binary)};
${options.modules?.map((path) => `load_module ${path};`).join('\n') ?? ''}
worker_processes ${String(options.workers ?? 1)};
pid ${dir}/nginx.pid;
error_log stderr notice;
events { worker_connections 4096; }
${options.main ?? ''}
http {
  ${temporary}
  access_log ${dir}/access.log;
  include ${edge}/postern-http.conf;
  ${(options.http ?? '').replaceAll('EDGE', edge)}
  server {
    listen 127.0.0.1:${String(port)};
    ${(options.server ?? DEFAULT_SERVER).replaceAll('EDGE', edge)}
  }
}
`)
  const [program, ...first] = command(binary)
  const child = spawn(program, [...first, '-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr', '-g', 'daemon off;'], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (text: string) => { log += text })
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const over = () => child.exitCode !== null || child.signalCode !== null
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopped ??= (async () => {
      if (!over()) child.kill('SIGTERM')
      await gone
      rmSync(dir, { recursive: true, force: true })
      const faults = log.split('\n').filter((line) => /\[(error|crit|alert|emerg)\]/.test(line) && !(options.expected ?? []).some((known) => known.test(line)))
      if (faults.length > 0) throw new Error(`nginx logged what no test expects:\n${faults.slice(0, 10).join('\n')}`)
    })()
    return stopped
  }
  // The test is over: it takes no assertion any more, and one that throws here would keep all from being stopped that began before it.
  t.teardown(() => stop().catch((error: unknown) => {
    process.exitCode = 1
    console.error(error)
  }))
  // It writes its pid file when it listens.
  await until('nginx to listen', () => {
    if (over()) throw new Error(`nginx ended at once:\n${log}`)
    return /start worker process \d+/.test(log)
  }, { logs: () => log })
  const started = () => log.match(/start worker process \d+/g)?.length ?? 0
  const reload = async (): Promise<void> => {
    const before = started()
    child.kill('SIGHUP')
    await until('nginx to start new workers', () => started() > before, { logs: () => log })
  }
  return { port, url: `http://127.0.0.1:${String(port)}`, pid: child.pid ?? 0, dir, logs: () => log, reload, stop }
}

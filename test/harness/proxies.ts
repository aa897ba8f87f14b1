// Real proxies for tests: squid, dante and tinyproxy, each in a folder and on a port of its own.
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../dev/free-port.ts'
import type { Ends } from './origin.ts'
import { until } from './until.ts'

export interface RunningProxy {
  readonly port: number
  logs(): string
  stop(): Promise<void>
}

interface Recipe {
  readonly program: string
  /** Writes its files into `dir`; returns its arguments. */
  prepare(dir: string, port: number): readonly string[]
}

/** Starts `recipe` and waits until it accepts connections. */
async function start(t: Ends, options: ProxyOptions, recipe: Recipe): Promise<RunningProxy> {
  const dir = mkdtempSync(join(tmpdir(), 'postern-proxy-'))
  // They drop root's rights and must still read and write here.
  chmodSync(dir, 0o777)
  const port = options.port ?? (await freePort())
  const child = spawn(recipe.program, recipe.prepare(dir, port), { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (log += chunk.toString()))
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const stop = async (): Promise<void> => {
    // The whole group: each is several processes.
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
    await exited
    rmSync(dir, { recursive: true, force: true })
  }
  t.teardown(stop)
  const logs = (): string => log + (existsSync(join(dir, 'log')) ? readFileSync(join(dir, 'log'), 'utf8') : '')
  await until(`${recipe.program} listens`, () => accepts(port), { logs })
  return { port, logs, stop }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

export interface ProxyOptions {
  /** Only who names this name and password may pass. */
  readonly user?: { readonly name: string; readonly password: string }
  /** More lines of its configuration, before its own rules. */
  readonly more?: string
  /** A free one, if it is not said. */
  readonly port?: number
}

/** squid: CONNECT to any port of this machine, and plain forwarding. */
export function startSquid(t: Ends, options: ProxyOptions = {}): Promise<RunningProxy> {
  return start(t, options, {
    program: 'squid',
    prepare: (dir, port) => {
      const { user } = options
      if (user !== undefined) writeFileSync(join(dir, 'users'), `${user.name}:${execFileSync('openssl', ['passwd', '-apr1', user.password]).toString()}`)
      const auth = user === undefined ? '' : `auth_param basic program ${basicAuthProgram()} ${dir}/users\nacl known proxy_auth REQUIRED\nhttp_access deny !known\n`
      writeFileSync(
        join(dir, 'squid.conf'),
        `http_port 127.0.0.1:${String(port)}\npid_filename ${dir}/pid\ncache deny all\ncache_log ${dir}/log\naccess_log none\ncoredump_dir ${dir}\nshutdown_lifetime 0 seconds\n${options.more ?? ''}\n${auth}http_access allow localhost\n`,
      )
      return ['-N', '-f', join(dir, 'squid.conf')]
    },
  })
}

const basicAuthProgram = (): string => ['/usr/lib/squid/basic_ncsa_auth', '/usr/libexec/squid/basic_ncsa_auth'].find((path) => existsSync(path)) ?? 'basic_ncsa_auth'

/** dante: SOCKS5. */
export function startDante(t: Ends): Promise<RunningProxy> {
  return start(t, {}, {
    program: 'danted',
    prepare: (dir, port) => {
      writeFileSync(
        join(dir, 'danted.conf'),
        `logoutput: ${dir}/log\ninternal: 127.0.0.1 port = ${String(port)}\nexternal: 127.0.0.1\nclientmethod: none\nsocksmethod: none\n` +
          'client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }\nsocks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }\n',
      )
      return ['-f', join(dir, 'danted.conf'), '-p', join(dir, 'pid')]
    },
  })
}

/** tinyproxy: CONNECT. */
export function startTinyproxy(t: Ends, options: ProxyOptions = {}): Promise<RunningProxy> {
  return start(t, options, {
    program: 'tinyproxy',
    prepare: (dir, port) => {
      const auth = options.user === undefined ? '' : `BasicAuth ${options.user.name} ${options.user.password}\n`
      writeFileSync(join(dir, 'tinyproxy.conf'), `Port ${String(port)}\nListen 127.0.0.1\nTimeout 600\nLogFile "${dir}/log"\nMaxClients 100\nAllow 127.0.0.1\n${auth}${options.more ?? ''}\n`)
      return ['-d', '-c', join(dir, 'tinyproxy.conf')]
    },
  })
}

// Starts an nginx of our own: one configuration from parts, everything it writes in one folder, no daemon.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { accepts, type Processes, run, type Running } from './processes.ts'

export interface NginxParts {
  /** Where its configuration, logs and temporary files go: absolute. */
  dir: string
  /** Directives for `main {}`. */
  main?: string
  /** Directives for `http {}`; each server listens on 127.0.0.1. */
  http: string
  /** A port that it listens on when it is ready. */
  port: number
  accessLog?: boolean
  /** A command to run it by (dev/processes.ts). */
  within?: readonly string[]
}

/** The line that loads njs, from where this nginx keeps its modules. */
export async function loadNjs(): Promise<string> {
  const told = await run('sh', ['-c', 'nginx -V 2>&1'])
  const folder = /--modules-path=(\S+)/.exec(told)?.[1] ?? '/usr/lib/nginx/modules'
  return `load_module ${join(folder, 'ngx_http_js_module.so')};`
}

/** The version as nginx tells it: `nginx/1.22.1`. */
export async function nginxVersion(): Promise<string> {
  return /nginx\/\S+/.exec(await run('sh', ['-c', 'nginx -v 2>&1']))?.[0] ?? 'nginx'
}

export async function startNginx(processes: Processes, name: string, parts: NginxParts): Promise<Running> {
  const { dir } = parts
  mkdirSync(dir, { recursive: true })
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `  ${kind}_temp_path ${dir}/${kind};`).join('\n')
  // As root the workers stay root: they read a folder that is ours alone. Elsewhere nginx has the user it was started by.
  const user = process.getuid?.() === 0 ? 'user root;\n' : ''
  writeFileSync(join(dir, 'nginx.conf'), `${user}${parts.main ?? ''}
worker_processes auto;
pcre_jit on;
pid ${dir}/nginx.pid;
error_log stderr notice;
events { worker_connections 8192; }
http {
  include /etc/nginx/mime.types;
${temporary}
  access_log ${parts.accessLog === true ? `${dir}/access.log` : 'off'};
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000;
${parts.http}
}
`)
  const running = processes.start(name, 'nginx', ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr', '-g', 'daemon off;'], parts.within === undefined ? {} : { within: parts.within })
  // In another network namespace nobody can ask: nginx writes its pid file when it listens.
  await processes.until(running, `connection on port ${String(parts.port)}`, () => (parts.within === undefined ? accepts({ port: parts.port }) : existsSync(join(dir, 'nginx.pid'))))
  return running
}

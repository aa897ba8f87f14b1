// A live systemd in namespaces of its own, on a copy of this machine's files that is gone with it: started with what Postern's README tells to install.
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import type { Ends } from './origin.ts'
import { until } from './until.ts'

const ROOT = join(import.meta.dirname, '../..')
const exec = promisify(execFile)
const BOOT_TIMEOUT_MS = 60_000
const PATHS = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * $1: a folder to be made; $2: this repository, to be seen as /opt/postern; $3: a script that installs, run in the new root. Nothing of the machine's own
 * configuration of systemd is taken over: the target holds what the script enables. The kernel's settings can be read only.
 */
const BOOT = `set -e
mkdir "$1"
mount --make-rprivate /
mount -t tmpfs tmpfs "$1" && mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root" && cd "$1/root"
mkdir -p opt/postern old && mount --bind "$2" opt/postern
mount -t proc proc proc && mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
for each in run tmp dev; do mount -t tmpfs tmpfs "$each"; done
mkdir dev/pts dev/shm && mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts && ln -s pts/ptmx dev/ptmx && ln -s /proc/self/fd dev/fd
for each in null zero full random urandom tty; do touch "dev/$each" && mount --bind "/dev/$each" "dev/$each"; done
rm -rf etc/systemd/system && mkdir -p etc/systemd/system
cp "$3" install.sh && chroot . sh /install.sh
pivot_root . old && umount -l /old
exec env -i container=postern ${PATHS} /lib/systemd/systemd --system --unit=multi-user.target`

/** $1: the name of a cgroup below this process's own, where all that runs in there stays; the rest is run in it. */
const WITHIN = `set -e
group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)$(sed -n 's/^0:://p' /proc/self/cgroup)/$1
mkdir "$group" && echo $$ > "$group/cgroup.procs" && echo "$group" && shift && exec "$@"`

/** Not of a machine in a namespace. */
const MASKED = [
  'systemd-udevd.service', 'systemd-udev-trigger.service', 'systemd-tmpfiles-setup.service', 'systemd-tmpfiles-setup-dev.service', 'systemd-tmpfiles-clean.timer',
  'systemd-logind.service', 'systemd-modules-load.service', 'systemd-random-seed.service', 'getty.target', 'tmp.mount',
]

export interface Systemd {
  /** Runs a command in there as root, with `postern-gateway` at hand; resolves with what it printed, rejects if it failed. */
  run(...command: string[]): Promise<string>
  journal(): Promise<string>
}

/** Undefined where it can be had, else why not. */
export async function noSystemd(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'it needs root'
  const tried = 'command -v systemctl && mount -t tmpfs tmpfs /mnt && cd /mnt && mkdir a b c && mount -t overlay overlay -o lowerdir=/,upperdir=a,workdir=b c && mount -t cgroup2 cgroup2 c/sys'
  return exec('unshare', ['--mount', '--cgroup', 'sh', '-c', tried]).then(() => undefined, (error: unknown) => `no systemd of its own is to be had here: ${String(error)}`)
}

/** `install`: shell commands that a person would type, run before systemd starts; they find /opt/postern and Node. */
export async function startSystemd(t: Ends, install: string): Promise<Systemd> {
  const dir = mkdtempSync(join(tmpdir(), 'postern-systemd-'))
  const script = join(dir, 'install.sh')
  const lines = [
    'set -e',
    'ln -sf /opt/postern/node_modules/node/bin/node /usr/local/bin/node',
    `printf '#!/bin/sh\\nexec node /opt/postern/sidecar/main.ts "$@"\\n' > /usr/local/bin/postern-gateway`,
    'chmod 755 /usr/local/bin/postern-gateway',
    `systemctl mask --quiet ${MASKED.join(' ')}`,
    install,
  ]
  writeFileSync(script, `${lines.join('\n')}\n`)
  const namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--uts', '--ipc', '--cgroup']
  const args = ['-c', WITHIN, 'within', basename(dir), ...namespaces, 'sh', '-c', BOOT, 'boot', join(dir, 'cow'), ROOT, script]
  const child = spawn('sh', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (log += chunk.toString()))
  let ended = false
  const exited = new Promise<void>((resolve) => child.once('close', () => {
    ended = true
    resolve()
  }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
    const group = log.slice(0, log.indexOf('\n'))
    if (group.startsWith('/')) await until('its cgroups are empty', () => exec('find', [group, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+']).then(() => true, () => !existsSync(group)))
    rmSync(dir, { recursive: true, force: true })
  })
  const first = (): string => {
    if (ended) throw new Error(`systemd did not start:\n${log}`)
    try {
      return readFileSync(`/proc/${String(child.pid)}/task/${String(child.pid)}/children`, 'utf8').trim()
    } catch {
      return ''
    }
  }
  const run = async (...command: string[]): Promise<string> => {
    const inside = ['--target', first(), '--mount', '--pid', '--uts', '--ipc', '--root', '--wd=/', 'env', '-i', PATHS]
    return (await exec('nsenter', [...inside, ...command])).stdout
  }
  const journal = (): Promise<string> => run('journalctl', '--no-pager', '--output=short').catch(String)
  await until('systemd is up', async () => {
    if (first() === '') return false
    return (await run('systemctl', 'is-system-running').catch((error: unknown) => String((error as { stdout?: string }).stdout))).match(/running|degraded/) !== null
  }, { timeoutMs: BOOT_TIMEOUT_MS, logs: () => log })
  return { run, journal }
}

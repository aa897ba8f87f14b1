// Holds a gateway's sockets and ports as a service manager does (sd_listen_fds(3)) and starts one gateway process after another on them.
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Ends } from './origin.ts'
import { until } from './until.ts'

const MAIN = join(import.meta.dirname, '../../sidecar/main.ts')
const exec = promisify(execFile)

/** In Perl, for Node can't hold a socket that listens without accepting from it. Every Debian has it. Each line it reads starts a gateway. */
const HOLDER = `use strict; use Socket; $| = 1; $^F = 255;
my ($names, $dir, @command) = @ARGV; my @names = split /,/, $names; my @held; my $fd = 3;
for my $name (@names) {
  my $socket; my $port = $name =~ /port$/;
  socket($socket, $port ? PF_INET : PF_UNIX, SOCK_STREAM, 0) && bind($socket, $port ? pack_sockaddr_in(0, INADDR_LOOPBACK) : sockaddr_un("$dir/$name.sock")) && listen($socket, 4096) or die "$name: $!";
  fileno($socket) == $fd++ or die 'descriptors are not where they should be'; push @held, $socket;
  print "$name ", (unpack_sockaddr_in(getsockname($socket)))[0], "\\n" if $port;
}
print "holding\\n";
while (<STDIN>) {
  my $pid = fork // die $!;
  if ($pid == 0) {
    open STDIN, '<', '/dev/null';
    @ENV{'LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES'} = ($$, scalar @names, join(':', @names));
    exec @command or die $!;
  }
  print "started $pid\\n"; waitpid $pid, 0; print 'ended ', $? & 127 ? 'by a signal' : $? >> 8, "\\n";
}`

type PortName = 'agents-port' | 'agents-tls-port'

export interface ActivatedGateway {
  readonly runDir: string
  /** Of the gateway's own. */
  port(name: PortName): number
  /** What gateways said since the first start, an object a line. */
  readonly events: readonly Readonly<Record<string, unknown>>[]
  logs(): string
  /** Starts one; resolves when it is ready. */
  start(): Promise<void>
  /** Sends a signal; resolves with the exit code when the process has ended. */
  end(signal: NodeJS.Signals): Promise<string>
  /** Runs `postern-gateway ARGS…` against it. */
  command(...args: string[]): Promise<string>
}

/** Begins to hold the sockets, and ports if there are to be some. No gateway is started. */
export async function holdSockets(t: Ends, settings: Readonly<Record<string, string>> = {}, ports: readonly PortName[] = []): Promise<ActivatedGateway> {
  const runDir = mkdtempSync(join(tmpdir(), 'postern-held-'))
  const folders = ['--run-dir', runDir, '--state-dir', join(runDir, 'state')]
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name.replaceAll('_', '-')}`, value])
  const holder = spawn('perl', ['-e', HOLDER, ['ingress', 'ingress-h2', 'agents', 'control', ...ports].join(), runDir, process.execPath, MAIN, 'start', ...folders, ...flags], { stdio: ['pipe', 'pipe', 'pipe'] })
  const closed = new Promise<void>((resolve) => holder.once('close', () => resolve()))
  const events: Record<string, unknown>[] = []
  const said: string[] = []
  let pid = 0
  for (const stream of [holder.stdout, holder.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      said.push(line)
      if (line.startsWith('{')) events.push(JSON.parse(line) as Record<string, unknown>)
      else if (line.startsWith('started ')) pid = Number(line.slice(8))
      else if (line.startsWith('ended ')) pid = 0
    })
  }
  const logs = (): string => said.join('\n')
  t.teardown(async () => {
    if (pid !== 0) process.kill(pid, 'SIGKILL')
    holder.stdin.end()
    await closed
    rmSync(runDir, { recursive: true, force: true })
  })
  await until('the sockets are held', () => said.includes('holding'), { logs })
  return {
    runDir,
    port: (name) => Number(said.find((line) => line.startsWith(`${name} `))?.slice(name.length)),
    events,
    logs,
    start: async () => {
      const [from, saidFrom] = [events.length, said.length]
      holder.stdin.write('start\n')
      await until('the gateway is ready', () => {
        if (said.slice(saidFrom).some((line) => line.startsWith('ended '))) throw new Error(`the gateway ended at once:\n${logs()}`)
        return events.slice(from).some(({ event }) => event === 'ready')
      }, { logs })
    },
    end: async (signal) => {
      const from = said.length
      process.kill(pid, signal)
      return until('the gateway ends', () => said.slice(from).find((line) => line.startsWith('ended '))?.slice(6), { logs })
    },
    command: async (...args) => (await exec(process.execPath, [MAIN, ...args, ...folders])).stdout.trim(),
  }
}

// Imported into every test process (.taprc): one that is interrupted, or fails beyond its teardown, takes all with it that it started.
import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'

/** Those that a process started, and what they started in turn. */
function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) if (/^\d+$/.test(name)) parents.set(Number(name), parentOf(name))
  const found = [pid]
  // It grows as it is gone through.
  for (const one of found) for (const [child, parent] of parents) if (parent === one) found.push(child)
  return found.slice(1)
}

function parentOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // Behind the name in brackets, which may hold anything: the state, and the parent (proc_pid_stat(5)).
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return 0
  }
}

function killAll(): void {
  for (const pid of descendantsOf(process.pid)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended meanwhile.
    }
  }
}

// SIGALRM is how tap ends a file whose time is over, once it has said so.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGALRM'] as const) {
  process.once(signal, () => {
    killAll()
    process.exit(128 + constants.signals[signal])
  })
}
process.on('exit', (code) => {
  if (code !== 0) killAll()
})

// Imported into every test process (.taprc): one that is interrupted, or fails beyond its teardown, takes all with it that it started.
import { constants } from 'node:os'
import { family } from '../../bench/proc.ts'

function killAll(): void {
  for (const pid of family([process.pid])) {
    if (pid === process.pid) continue
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

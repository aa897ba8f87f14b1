// A disk so small that a test can fill it: a tmpfs, mounted for as long as the test runs.
import { execFileSync } from 'node:child_process'
import { closeSync, fstatSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Ends } from '../harness/origin.ts'

/** Why there can be none here, or false. */
export const noSmallDisk: string | false = process.getuid?.() === 0 ? false : 'mounting needs root'

const PAGE_BYTES = 4_096

export interface SmallDisk {
  /** Takes the last byte. */
  fill(): void
  free(): void
}

/** Mounts one on `folder`, which is made. To be called before anything that uses it registers its own end. */
export function mountSmallDisk(t: Ends, folder: string, kilobytes: number): SmallDisk {
  mkdirSync(folder, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${String(kilobytes)}k,mode=755`, 'tmpfs', folder])
  // Lazily: whoever still has a file open there may be killed after this.
  t.teardown(() => void execFileSync('umount', ['-l', folder]))
  const filler = join(folder, 'filler')
  return {
    fill: () => {
      const fd = openSync(filler, 'a')
      try {
        for (;;) writeSync(fd, Buffer.alloc(PAGE_BYTES), 0, PAGE_BYTES, fstatSync(fd).size)
      } catch {
        closeSync(fd)
      }
    },
    free: () => rmSync(filler),
  }
}

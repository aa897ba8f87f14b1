// A fuzzer: changes good inputs at random, by a seed, for a bound of time, and fails when a decoder crashes, hangs, takes memory or throws what is no error of ours.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Test } from 'tap'
import { PosternError } from '../../protocol/errors.ts'
import { Random } from '../protocol/simulation.ts'

/** Something that reads what others wrote. */
export interface Target {
  readonly name: string
  /** Good inputs, which the changed ones are made of. */
  readonly seeds: readonly (Buffer | string)[]
  /** Reads `bytes`; `random` is for what else may vary, such as where they are cut. Throws what the decoder throws, or an Error if something is wrong that it did not see. */
  run(bytes: Buffer, random: Random): void | Promise<void>
  /** Errors that the decoder may throw beside a PosternError. */
  readonly throws?: (error: Error) => boolean
  /** What a round may take, if it goes over sockets. */
  readonly maxMs?: number
}

/** What a round may take: a message 5 ms, and around it what stands for a peer. */
const ROUND_MAX_MS = 20
/** One that took longer is tried so often: what the collector or a busy machine took is not taken every time. */
const SLOW_TRIES_COUNT = 10
/** What may be left in memory once all rounds are over. */
const LEFT_MAX_BYTES = 32 * 1024 * 1024
/** Longer ones find nothing that shorter ones do not. */
const INPUT_MAX_BYTES = 4_096
/** Bytes at which a decoder may stumble. */
const EDGES = [0, 1, 0x0a, 0x0d, 0x20, 0x22, 0x25, 0x2f, 0x3a, 0x3b, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xfe, 0xff]
/** Varints, lengths of u24 and u32, numbers in text, and what ends things. */
const PIECES = [
  'ffffffffffffffff', 'c000000000000000', 'dfffffffffffffff', 'bfffffff', 'ffffff', '00000000', '7fff', '0d0a0d0a', '0d0a', '00', '0a0a',
  ...['9007199254740992', '-1', '1e9', '0x10', 'Infinity', '__proto__', 'constructor', '%00', '..%2f', '\u2028', '💥', '{"a":', '[[[[[[', 'null', 'Content-Length: 5', 'Transfer-Encoding: chunked'].map((text) => Buffer.from(text).toString('hex')),
].map((hex) => Buffer.from(hex, 'hex'))

function change(bytes: Buffer, seeds: readonly Buffer[], random: Random): Buffer {
  const at = random.below(bytes.length + 1)
  const to = Math.min(bytes.length, at + 1 + random.below(16))
  switch (random.below(8)) {
    case 0:
      if (at < bytes.length) bytes[at] = EDGES[random.below(EDGES.length)]!
      return bytes
    case 1:
      if (at < bytes.length) bytes[at] = bytes[at]! ^ (1 << random.below(8))
      return bytes
    case 2:
      return Buffer.concat([bytes.subarray(0, at), PIECES[random.below(PIECES.length)]!, bytes.subarray(random.below(2) === 0 ? at : to)])
    case 3:
      return Buffer.concat([bytes.subarray(0, at), random.bytes(1 + random.below(12)), bytes.subarray(at)])
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(to)])
    case 5:
      return Buffer.from(bytes.subarray(0, at))
    case 6: {
      const part = bytes.subarray(at, to)
      return Buffer.concat([bytes.subarray(0, to), ...Array<Buffer>(1 + random.below(40)).fill(part), bytes.subarray(to)])
    }
    default: {
      const other = seeds[random.below(seeds.length)]!
      return Buffer.concat([bytes.subarray(0, at), other.subarray(random.below(other.length + 1))])
    }
  }
}

const collect = ((): (() => void) => {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
})()

/** Bytes in use, once all that is garbage is gone. */
export async function held(): Promise<number> {
  // What the first time lets go of is given back behind its back.
  collect()
  await new Promise((resolve) => setImmediate(resolve))
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

const describe = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error))

async function isSlow(target: Target, shown: string, maxMs: number): Promise<boolean> {
  for (let tries = 0; tries < SLOW_TRIES_COUNT; tries++) {
    const began = performance.now()
    try {
      await target.run(Buffer.from(shown, 'hex'), new Random(tries))
    } catch {
      // It was refused before, too.
    }
    if (performance.now() - began <= maxMs) return false
  }
  return true
}

/** Fuzzes `target` for `ms` with inputs that follow from `seed`. What it finds is told with the input that shows it. */
export async function fuzz(t: Test, target: Target, seed: number, ms: number): Promise<void> {
  const random = new Random(seed)
  const seeds = target.seeds.map((one) => (typeof one === 'string' ? Buffer.from(one, 'latin1') : one))
  for (const [index, one] of seeds.entries()) {
    try {
      await target.run(Buffer.from(one), random)
    } catch (error) {
      return void t.fail(`good input ${String(index)} is refused: ${describe(error)}`)
    }
  }
  const before = await held()
  const until = performance.now() + ms
  let rounds = 0
  let refused = 0
  for (let now = performance.now(); now < until; ) {
    let bytes = Buffer.from(seeds[random.below(seeds.length)]!)
    for (let left = 1 + random.below(5); left > 0; left--) bytes = Buffer.from(change(bytes, seeds, random).subarray(0, INPUT_MAX_BYTES))
    const shown = bytes.toString('hex')
    try {
      const running = target.run(bytes, random)
      if (running !== undefined) await running
    } catch (error) {
      refused++
      const ours = error instanceof PosternError || (error instanceof Error && target.throws?.(error) === true)
      if (!ours) return void t.fail(`${target.name}, seed ${String(seed)}, round ${String(rounds)}, ${shown}: ${describe(error)}`)
    }
    rounds++
    const after = performance.now()
    const maxMs = target.maxMs ?? ROUND_MAX_MS
    if (after - now > maxMs && (await isSlow(target, shown, maxMs))) return void t.fail(`${target.name}, seed ${String(seed)}: ${(after - now).toFixed(0)} ms for ${shown}`)
    now = performance.now()
  }
  const left = (await held()) - before
  t.ok(left < LEFT_MAX_BYTES, `${(left / 1_048_576).toFixed(1)} MiB are left after ${String(rounds)} rounds, of which ${String(refused)} were refused`)
}

// The fuzzer on everything there is, for so long each. POSTERN_FUZZ_SEED, POSTERN_FUZZ_MS and POSTERN_FUZZ_ONLY (a part of a target's name) say otherwise.
import type { Test } from 'tap'
import { edgeTargets } from './edge.ts'
import { fuzz } from './harness.ts'
import { outsideTargets } from './outside.ts'
import { WIRE } from './wire.ts'

const SEED = 20_261_126

export async function fuzzAll(t: Test, usualMs: number): Promise<void> {
  const seed = Number(process.env['POSTERN_FUZZ_SEED'] ?? SEED)
  const ms = Number(process.env['POSTERN_FUZZ_MS'] ?? usualMs)
  const only = process.env['POSTERN_FUZZ_ONLY'] ?? ''
  for (const target of [...WIRE, ...(await edgeTargets(t)), ...(await outsideTargets(t))]) {
    if (!target.name.includes(only)) continue
    await t.test(`${target.name}: whatever comes is read or refused (seed ${String(seed)})`, { timeout: 60_000 + 2 * ms }, (t) => fuzz(t, target, seed, ms))
  }
}

// The same as control-properties.test.ts for as long as it takes to have looked: three seeds, or the one in POSTERN_FUZZ_SEED.
import t from 'tap'
import { fuzz } from './control-fuzz.ts'

t.setTimeout(900_000)
const seed = process.env['POSTERN_FUZZ_SEED']
const QUESTIONS = 20_000

for (const one of seed === undefined ? [1, 2, 3] : [Number(seed)]) t.test(`seed ${String(one)}`, async (t) => fuzz(t, one, QUESTIONS))

// Everything that reads what others wrote survives what the fuzzer makes of it, 20 s each.
import t from 'tap'
import { fuzzAll } from './all.ts'

t.setTimeout(86_400_000)
await fuzzAll(t, 20_000)

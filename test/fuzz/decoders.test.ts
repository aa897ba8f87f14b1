// Everything that reads what others wrote survives what the fuzzer makes of it, half a second each.
import t from 'tap'
import { fuzzAll } from './all.ts'

await fuzzAll(t, 500)

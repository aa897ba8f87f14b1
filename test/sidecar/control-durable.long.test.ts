// The same as control-durable.test.ts, fifty times: kill -9 while changes come in loses nothing that was acknowledged.
import t from 'tap'
import { killed } from './killed.ts'

t.setTimeout(600_000)
t.test('fifty kills', async (t) => killed(t, 50))

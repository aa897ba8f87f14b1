// The clock of an agent's process keeps whatever time a gateway names, however long.
import t from 'tap'
import { processEnvironment } from '../../agent/environment.ts'

t.test('what is to be after half a century is not at once', async (t) => {
  const { clock } = processEnvironment()
  let came = false
  const cancel = clock.later(2 ** 40, () => (came = true))
  await new Promise<void>((resolve) => void clock.later(20, resolve))
  t.notOk(came)
  cancel()
})

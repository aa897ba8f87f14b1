// A rig whose agent serves, to see whether it still does after what a test did to it.
import { answers, Rig } from './gateway-rig.ts'

/** The rig is as good as before. */
export async function works(rig: Rig): Promise<void> {
  const asked = rig.ask('demo')
  if ((await asked.done()) !== 'head 200, end') throw new Error(asked.events.join())
}

export async function start(t: Parameters<typeof Rig.start>[0], options: Parameters<typeof Rig.start>[1] = {}): Promise<Rig> {
  const rig = await Rig.start(t, options)
  rig.allow('a', ['demo'])
  await rig.agent('a', answers(200, ''))
  return rig
}

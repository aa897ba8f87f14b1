// `npm run demo` that can't go on, or not even begin, says why, ends with the right code, and leaves no process and no file.
import { readdirSync } from 'node:fs'
import t from 'tap'
import { freePort } from '../../dev/free-port.ts'
import { killGateway, processesOf, ready, startDemo } from '../harness/demo.ts'
import { startOrigin } from '../harness/origin.ts'

t.test('when a part dies the demo shows it, ends with 1 and leaves nothing', async (t) => {
  const demo = startDemo(t, ['--port', String(await freePort())])
  await ready(demo)
  killGateway(demo)
  t.equal(await demo.ended, 1)
  t.match(demo.out(), /gateway ended by itself \(SIGKILL\)/)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

t.test('when nobody reads any more the demo ends and leaves nothing', async (t) => {
  const demo = startDemo(t, ['--port', String(await freePort())])
  await ready(demo)
  demo.child.stdout?.destroy()
  demo.child.stderr?.destroy()
  // What the gateway's death makes the demo say finds no reader.
  killGateway(demo)
  t.equal(await demo.ended, 1)
  t.same(readdirSync(demo.dir), [])
  t.same(processesOf(demo), [])
})

t.test('the demo says what is wrong with its options and exits with 2', async (t) => {
  const wrong = [
    [['--loud'], /'--loud'[^]*usage: npm run demo/],
    [['--host', 'a b'], /--host takes/],
    [['--port', '0'], /--port takes/],
    [['--origin', 'nonsense'], /--origin takes a URL/],
    [['--channel', 'pipe', '--proxy', 'http://127.0.0.1:3128'], /pipe goes through no --proxy/],
    [['--port', String(await freePort()), '--origin', 'ftp://here'], /only http and https/],
  ] as const
  for (const [options, says] of wrong) {
    const demo = startDemo(t, options)
    t.equal(await demo.ended, 2)
    t.match(demo.out(), says)
    t.same(readdirSync(demo.dir), [])
  }
})

t.test('the demo says so when its port is taken', async (t) => {
  const origin = await startOrigin(t)
  const demo = startDemo(t, ['--port', String(origin.port)])
  t.equal(await demo.ended, 1)
  t.match(demo.out(), new RegExp(`something listens on port ${String(origin.port)} already`))
  t.notMatch(demo.out(), /demo\.ts/, 'and no more than that')
})

// How much goes into one POST, on ways of every speed and length.
import t from 'tap'
import { PostSize } from '../../agent/post-size.ts'
import { BODY_MAX_BYTES } from '../../protocol/http-channel.ts'

/** What the twentieth POST holds, and how long it takes, where there is always enough to say. */
function settled(bytesPerSecond: number, roundTripMs: number): { bytes: number; ms: number } {
  const size = new PostSize()
  const msOf = (bytes: number): number => roundTripMs + (1_000 * bytes) / bytesPerSecond
  for (let i = 0; i < 20; i++) size.took(size.bytes, msOf(size.bytes))
  return { bytes: size.bytes, ms: msOf(size.bytes) }
}

t.test('a fast way is filled, however long it is', (t) => {
  for (const roundTripMs of [1, 50, 700]) t.equal(settled(20_000_000, roundTripMs).bytes, BODY_MAX_BYTES, `${String(roundTripMs)} ms`)
  t.end()
})

t.test('on a slow way each POST is answered well before the channel counts as stalled', (t) => {
  for (const bytesPerSecond of [30_000, 125_000, 1_000_000]) {
    for (const roundTripMs of [1, 50, 300]) {
      const { bytes, ms } = settled(bytesPerSecond, roundTripMs)
      t.ok(ms - roundTripMs < 1_500, `${String(bytesPerSecond)} bytes/s, ${String(roundTripMs)} ms: ${String(bytes)} bytes in ${String(ms)} ms`)
      t.ok(bytes >= Math.min(16 * 1024, bytesPerSecond / 4))
    }
  }
  t.end()
})

t.test('one slow answer is made up for, and small POSTs say nothing of the way', (t) => {
  const size = new PostSize()
  for (let i = 0; i < 10; i++) size.took(size.bytes, 10)
  t.equal(size.bytes, BODY_MAX_BYTES)
  size.took(BODY_MAX_BYTES, 5_000)
  t.ok(size.bytes < BODY_MAX_BYTES / 5)
  const less = size.bytes
  for (let i = 0; i < 10; i++) size.took(100, 10)
  t.equal(size.bytes, less)
  for (let i = 0; i < 10; i++) size.took(size.bytes, 10)
  t.equal(size.bytes, BODY_MAX_BYTES)
  t.end()
})

// The h1 door with the real gateway library and real agents behind it: half-close both ways, visitors who leave by the thousand, bounded memory.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { errors } from '../../protocol/errors.ts'
import type { Stream } from '../../protocol/stream.ts'
import { IngressH1 } from '../../sidecar/ingress-h1.ts'
import { PlainRoutes } from '../../sidecar/plain-routes.ts'
import { until } from '../harness/until.ts'
import { events, type Origin, Rig } from './gateway-rig.ts'
import { get, Raw } from './ingress-rig.ts'

const UPGRADE = 'Connection: upgrade\r\nUpgrade: echo\r\n'

/** An agent that does as told, and the door to it. */
async function start(t: Test, origin: Origin): Promise<{ rig: Rig; path: string }> {
  const rig = await Rig.start(t)
  const folder = mkdtempSync(join(tmpdir(), 'door-'))
  const path = join(folder, 'in.sock')
  const ingress = new IngressH1(rig.gateway.carry, new PlainRoutes(rig.environment.clock), () => undefined)
  ingress.server.listen(path)
  await once(ingress.server, 'listening')
  t.teardown(() => {
    ingress.destroy()
    rmSync(folder, { recursive: true, force: true })
  })
  rig.allow('agent-1', ['demo'])
  await rig.agent('agent-1', origin)
  return { rig, path }
}

t.test('a visitor that ends its half of an upgraded connection still hears the other', async (t) => {
  let heard = ''
  let stream: Stream | undefined
  let ended = false
  const { rig, path } = await start(t, (_opening, opened) => {
    stream = opened
    opened.sendHead([':status', '101', 'Upgrade', 'echo'], undefined, false)
    return events({
      onData: (chunk) => {
        heard += Buffer.from(chunk).toString()
        opened.consumed(chunk.length)
      },
      onEnd: () => (ended = true),
    })
  })
  const raw = new Raw(path)
  raw.socket.write(get('/', UPGRADE))
  await until('switched', () => raw.text.includes('101 Switching'))
  raw.socket.end('last words')
  await until('the end passed', () => ended)
  t.equal(heard, 'last words')
  t.notOk(raw.ended)
  stream!.write(Buffer.from('heard you'))
  await until('the answer passed', () => raw.text.endsWith('heard you'))
  stream!.end()
  await until('the end passed back', () => raw.ended)
  await until('nothing is left', () => rig.gateway.underWay === 0)
})

t.test('an origin that ends its half of an upgraded connection still hears the visitor', async (t) => {
  let heard = ''
  let ended = false
  const { rig, path } = await start(t, (_opening, opened) => {
    opened.sendHead([':status', '101', 'Upgrade', 'echo'], undefined, false)
    opened.write(Buffer.from('all I say'))
    opened.end()
    return events({
      onData: (chunk) => {
        heard += Buffer.from(chunk).toString()
        opened.consumed(chunk.length)
      },
      onEnd: () => (ended = true),
    })
  })
  const raw = new Raw(path)
  raw.socket.write(get('/', UPGRADE))
  await until('the end passed', () => raw.ended)
  t.ok(raw.text.endsWith('all I say'))
  raw.socket.write('still ')
  await until('heard', () => heard === 'still ')
  raw.socket.end('here')
  await until('the end passed back', () => ended)
  t.equal(heard, 'still here')
  await until('nothing is left', () => rig.gateway.underWay === 0)
})

t.test('10,000 visitors, half of whom leave at any moment: nobody gets another’s bytes and nothing is left under way', async (t) => {
  const open = new Set<Stream>()
  let begun = 0
  const { rig, path } = await start(t, ({ fields }, stream) => {
    begun++
    open.add(stream)
    const canary = fields[7]!.slice(1)
    // By turns the whole answer at once, the head first, or nothing yet when the visitor has gone.
    const answer = (): void => {
      if (!open.delete(stream)) return
      if (begun % 2 === 0) stream.sendHead([':status', '200'], Buffer.from(`<${canary}>`), true)
      else {
        stream.sendHead([':status', '200'], undefined, false)
        stream.write(Buffer.from(`<${canary}>`))
        stream.end()
      }
    }
    setImmediate(answer)
    return events({ onReset: () => open.delete(stream) })
  })
  let wrong = 0
  let answered = 0
  const visitor = async (first: number): Promise<void> => {
    let raw = new Raw(path)
    for (let i = first; i < 10_000; i += 50) {
      raw.text = ''
      const canary = `${String(i)}-${String(i * 7919)}`
      raw.socket.write(get(`/${canary}`))
      if (i % 4 < 2) {
        // Before the answer, or in the midst of it.
        if (i % 4 === 1) await until('something', () => raw.text.length > 0)
        raw.socket.destroy()
        raw = new Raw(path)
        continue
      }
      await until('the answer', () => raw.text.includes('>'))
      if (!raw.text.includes(`<${canary}>`)) wrong++
      answered++
      // A chunked answer's last chunk.
      await until('its end', () => !raw.text.includes('chunked') || raw.text.endsWith('0\r\n\r\n'))
    }
    raw.socket.destroy()
  }
  await Promise.all(Array.from({ length: 50 }, (_none, i) => visitor(i)))
  t.equal(wrong, 0)
  t.equal(answered, 5_000)
  await until('nothing is left under way', () => rig.gateway.underWay === 0 && open.size === 0)
})

t.test('a visitor who stops reading an endless answer holds no more than its window, and another is served at once', async (t) => {
  let sent = 0
  let room = true
  const { path } = await start(t, ({ fields }, stream) => {
    if (fields[7] !== '/endless') {
      stream.sendHead([':status', '200'], Buffer.from('quick'), true)
      return events()
    }
    stream.sendHead([':status', '200'], undefined, false)
    const chunk = Buffer.alloc(16_384)
    const pour = (): void => {
      do {
        sent += chunk.length
        room = stream.write(chunk)
      } while (room)
    }
    setImmediate(pour)
    return events({ onDrain: pour, onReset: () => (room = false) })
  })
  const slow = new Raw(path)
  slow.socket.write(get('/endless'))
  slow.socket.pause()
  const quick = new Raw(path)
  let before = -1
  await until('the slow one is full', async () => {
    quick.text = ''
    quick.socket.write(get('/quick'))
    await until('another is served', () => quick.text.endsWith('quick'))
    const same = sent === before && sent > 0
    before = sent
    return same
  })
  t.ok(sent <= 2_000_000, `${String(sent)} bytes were taken of it`)
  slow.socket.destroy()
  quick.socket.destroy()
})

t.test('an agent that refuses, or goes, is told of by its code', async (t) => {
  const { path } = await start(t, ({ fields }, stream) => {
    if (fields[7] === '/origin') return errors.origin_refused
    setImmediate(() => stream.reset(errors.origin_reset, true))
    return events()
  })
  const raw = new Raw(path)
  for (const [target, code] of [['/origin', 'origin_refused'], ['/broken', 'origin_reset']] as const) {
    raw.text = ''
    raw.socket.write(get(target))
    await until('refused', () => raw.text.includes('uuid: '))
    t.match(raw.text, new RegExp(`^HTTP/1\\.1 502 Bad Gateway\\r\\n[^]*\\r\\nPostern-Agent: agent-1\\r\\n[^]*code: ${code}\\n`))
  }
  raw.socket.destroy()
})

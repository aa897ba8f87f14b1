// Which channels an agent may take, in which order, by what its user and its environment say.
import t from 'tap'
import { candidateText, checkGateway, keyOf, listCandidates, listEverything, type Wishes } from '../../agent/candidates.ts'
import { SettingsError } from '../../agent/settings.ts'

const PROXY = 'http://user:secret@proxy:3128'
const list = (wishes: Partial<Wishes>, env: Record<string, string> = {}): string => listCandidates({ gateway: 'https://gw.example', ...wishes }, env).map(keyOf).join(', ')

t.test('each sort of gateway URL has its order', (t) => {
  for (const [gateway, order] of [
    ['https://gw.example/base', 'websocket direct, http2 direct, tcp direct, sse direct, long-poll direct'],
    ['http://gw.example:8080', 'websocket direct, tcp direct, http2 direct, sse direct, long-poll direct'],
    ['tcp://gw.example:4000', 'tcp direct, websocket direct, http2 direct, sse direct, long-poll direct'],
    ['tls://[::1]:4000', 'tcp direct, websocket direct, http2 direct, sse direct, long-poll direct'],
  ] as const) t.equal(list({ gateway: checkGateway(gateway) }), order, gateway)
  t.end()
})

t.test('what is wished for by name is the only one of its sort', (t) => {
  t.equal(list({ channel: 'tcp' }), 'tcp direct')
  t.equal(list({ channel: 'auto', pipe: 'ssh edge postern-gateway pipe' }), 'pipe direct')
  t.equal(list({ channel: 'pipe', pipe: 'unix:/run/x' }), 'pipe direct')
  t.equal(list({ channel: 'http2', pipe: 'ssh' }), 'http2 direct', 'another kind by name goes before a command')
  t.equal(list({ channel: 'tcp', proxy: 'socks5://p:1' }), 'tcp socks5://p:1')
  t.end()
})

t.test('a pipe gets what it goes over, and no other does', (t) => {
  t.match(listCandidates({ gateway: 'https://gw.example', pipe: 'ssh edge' }, {}), [{ kind: 'pipe', pipe: 'ssh edge' }])
  t.end()
})

t.test('requests go through an HTTP proxy one by one where a tunnel may be forbidden, and only to a gateway without TLS', (t) => {
  const by = 'connect http://proxy:3128'
  t.equal(
    list({ gateway: 'http://gw.example', proxy: PROXY }),
    `websocket ${by}, tcp ${by}, http2 ${by}, sse ${by}, long-poll ${by}, sse forward http://proxy:3128, long-poll forward http://proxy:3128`,
  )
  t.notMatch(list({ proxy: PROXY }), /forward/)
  t.notMatch(list({ gateway: 'http://gw.example', proxy: 'socks5://proxy' }), /forward/)
  t.equal(list({ gateway: 'http://gw.example', proxy: PROXY, channel: 'sse' }), `sse ${by}, sse forward http://proxy:3128`)
  t.end()
})

t.test('the environment names the way as it does for the URL of the same place', (t) => {
  const env = { https_proxy: 'http://secure:1', http_proxy: 'http://plain:1', no_proxy: 'inside.example' }
  for (const [gateway, way] of [
    ['https://gw.example', 'connect http://secure:1'],
    ['tls://gw.example:1', 'connect http://secure:1'],
    ['http://gw.example', 'connect http://plain:1'],
    ['tcp://gw.example:1', 'connect http://plain:1'],
    ['tls://inside.example:1', 'direct'],
  ] as const) t.equal(list({ gateway, channel: 'tcp' }, env), `tcp ${way}`, gateway)
  t.equal(list({ channel: 'tcp', proxy: 'direct' }, env), 'tcp direct')
  t.end()
})

t.test('a diagnosis tries the direct way beside a proxy, and the pipe beside all', (t) => {
  const all = listEverything({ gateway: 'http://gw.example', proxy: PROXY, pipe: 'ssh edge' }, {}).map(keyOf)
  t.equal(all[0], 'pipe direct')
  t.equal(all.filter((key) => key.endsWith('direct')).length, 6)
  t.equal(all.length, 13)
  t.equal(listEverything({ gateway: 'http://gw.example' }, {}).length, 5)
  t.end()
})

t.test('no password is in what is shown or kept of a candidate', (t) => {
  for (const candidate of listEverything({ gateway: 'http://gw.example', proxy: PROXY }, {})) t.notMatch(`${keyOf(candidate)} ${candidateText(candidate)}`, /secret|user/)
  t.end()
})

t.test('what is wrong is said', (t) => {
  for (const [wishes, says] of [
    [{ channel: 'carrier-pigeon' }, /no channel; there are auto, websocket, http2, tcp, sse, long-poll, pipe/],
    [{ channel: 'constructor' }, /no channel/],
    [{ channel: 'pipe' }, /--pipe COMMAND/],
    [{ pipe: 'ssh edge', proxy: PROXY }, /goes by no proxy/],
    [{ proxy: 'ftp://x' }, /proxy/],
  ] as const) t.throws(() => list(wishes), says)
  for (const gateway of ['gw.example', 'ftp://gw.example', 'tcp://gw.example', 'tls://gw.example:1/path', 'https://user:secret@gw.example', 'https://', '']) {
    t.throws(() => checkGateway(gateway), SettingsError, gateway)
  }
  t.end()
})

// Which way out is meant, by flag and by environment.
import t from 'tap'
import { credentialsOf, proxyPort, readWay, type Way, wayFromEnvironment, wayText } from '../../agent/way.ts'

const text = (way: Way): string => (way.kind === 'direct' ? 'direct' : `${way.kind} ${way.proxy.href}`)

t.test('a proxy as people type it', (t) => {
  for (const [typed, means] of [
    ['direct', 'direct'],
    ['proxy:3128', 'connect http://proxy:3128/'],
    ['http://proxy:3128', 'connect http://proxy:3128/'],
    ['https://u:p@proxy', 'connect https://u:p@proxy/'],
    ['socks5://127.0.0.1:1080', 'socks5 socks5://127.0.0.1:1080'],
    ['socks5h://[::1]:9', 'socks5 socks5h://[::1]:9'],
  ] as const) t.equal(text(readWay(typed, 'x')), means, typed)
  for (const typed of ['', 'ftp://proxy', 'http://', 'socks4://x', 'http://a b']) t.throws(() => readWay(typed, '--proxy'), /^SettingsError|--proxy/, typed)
  t.end()
})

t.test('a proxy without a port listens at the one of its scheme', (t) => {
  for (const [typed, port] of [['proxy', 80], ['http://proxy:80', 80], ['https://proxy', 443], ['https://proxy:443', 443], ['socks5://proxy', 1080], ['socks5h://proxy', 1080], ['socks5://proxy:80', 80], ['http://proxy:3128', 3128]] as const) {
    const way = readWay(typed, 'x')
    t.equal(way.kind === 'direct' ? 0 : proxyPort(way.proxy), port, typed)
  }
  t.end()
})

t.test('credentials are decoded, and never shown', (t) => {
  const way = readWay('http://us%20er:p%3Ass@proxy:1', 'x')
  t.same(way.kind === 'direct' ? undefined : credentialsOf(way.proxy), { name: 'us er', password: 'p:ss' })
  t.equal(wayText(way), 'through http://proxy:1')
  if (way.kind !== 'direct') t.equal(wayText({ ...way, kind: 'forward' }), 'by plain requests through http://proxy:1')
  t.end()
})

t.test('the environment: by scheme, lower case first, a CGI’s HTTP_PROXY never, exceptions by NO_PROXY', (t) => {
  const P = { http_proxy: 'http://p1:1', HTTPS_PROXY: 'http://p2:2' }
  for (const [gateway, env, means] of [
    ['http://g/', P, 'connect http://p1:1/'],
    ['https://g/', P, 'connect http://p2:2/'],
    ['https://g/', { ...P, https_proxy: 'http://p3:3' }, 'connect http://p3:3/'],
    ['http://g/', { HTTP_PROXY: 'http://p4:4' }, 'connect http://p4:4/'],
    ['http://g/', { HTTP_PROXY: 'http://p4:4', REQUEST_METHOD: 'GET' }, 'direct'],
    ['https://g/', { ALL_PROXY: 'socks5://p5:5' }, 'socks5 socks5://p5:5'],
    ['https://g/', { https_proxy: '', all_proxy: '' }, 'direct'],
    ['https://g/', {}, 'direct'],
    ...['*', 'g.example.com', '.example.com', 'example.com', '*.example.com', 'x, example.com', 'example.com:443'].map((no) => ['https://g.example.com/', { ...P, NO_PROXY: no }, 'direct'] as const),
    ...['ample.com', 'g.example.com:80', 'h.example.com', ''].map((no) => ['https://g.example.com/', { ...P, no_proxy: no }, 'connect http://p2:2/'] as const),
    ['http://[::1]:8080/', { ...P, no_proxy: '[::1]:8080' }, 'direct'],
  ] as const) t.equal(text(wayFromEnvironment(gateway, env)), means, `${gateway} ${JSON.stringify(env)}`)
  t.end()
})

// The endpoint in nginx: which service a request is for, by which door it goes to the gateway, what a visitor is told when it can't (SPEC §16).
//
// Written in the JavaScript that njs 0.7.9 knows: no class, destructuring, spread, Map or Set, one default export. The module holds constants only.
// Nothing here reads a body, waits, or throws on a way that a visitor can choose: an exception of fs costs as much as 20 whole requests.
import fs from 'fs'

interface Refusal {
  status: number
  title: string
  proxyStatus: string
  says: string
}

/** The rows of protocol/errors.ts that nginx itself answers with; a test holds the two equal. */
const refusals: { [code: string]: Refusal } = {
  bad_request: { status: 400, title: 'Bad Request', proxyStatus: 'http_request_error', says: 'The request breaks the rules of HTTP.' },
  head_too_large: { status: 431, title: 'Request Header Fields Too Large', proxyStatus: 'http_request_error', says: 'The head of the request is too large.' },
  no_service: { status: 404, title: 'Not Found', proxyStatus: 'destination_not_found', says: 'There is no such service here.' },
  service_away: { status: 503, title: 'Service Unavailable', proxyStatus: 'destination_unavailable', says: 'The service is known, but nobody serves it at the moment.' },
  no_route_table: {
    status: 503,
    title: 'Service Unavailable',
    proxyStatus: 'proxy_configuration_error',
    says: 'The gateway has not published its services yet. Try again in a moment.',
  },
  gateway_away: { status: 502, title: 'Bad Gateway', proxyStatus: 'destination_unavailable', says: 'The gateway can not be reached. Try again in a moment.' },
  gateway_slow: { status: 504, title: 'Gateway Timeout', proxyStatus: 'http_response_timeout', says: 'The gateway did not answer in time.' },
}

/** What every 503 tells of when to come again. */
const RETRY_AFTER_SECONDS = '5'
/** Bodies up to this length go by the h1 door: the gateway holds so much of a stream before its agent grants more. */
const H1_BODY_MAX_BYTES = 65536
/** The longest name of DNS. */
const HOST_MAX_BYTES = 253
const ROUTE_MAX_BYTES = 512
const PREFIXES_MAX_COUNT = 64
/** So many parents of a hostname are asked for a wildcard: bounds what an unknown name costs. */
const WILDCARD_PARENTS_MAX_COUNT = 4
const MAY_BE_MISSING = { throwIfNoEntry: false }

// Labels that are not empty: no leading, trailing or doubled dot, no slash, so a name is always a file of the folder and never one of our dotted ones.
const HOST = /^[a-z0-9-]+(\.[a-z0-9-]+)*$/
const PORT = /^:[0-9]{1,5}$/
const ROUTE = /^1 (up|away|none) (h1|h2) (-|[a-z0-9][a-z0-9-]{0,62}) (-|[a-z]+)$/
const CONNECTION = /^[A-Za-z0-9!#$%&'*+.^_`|~, \t-]*$/
const UPGRADES = /(^|[, \t])upgrade([, \t]|$)/i
const PLAIN = /^[A-Za-z0-9._~:[\]-]*$/

/** The text of a file, undefined if there is none. Throws if it is too large or can't be read. */
function read(path: string, maxBytes: number): string | undefined {
  const stat = fs.statSync(path, MAY_BE_MISSING) as { size: number } | undefined
  if (stat === undefined) return undefined
  if (stat.size > maxBytes) throw new Error(`${path} is too large`)
  return fs.readFileSync(path, 'utf8')
}

/** The text of the route file that holds for a host, after its name and a space, or the code of the refusal. */
function routeFile(routes: string, host: string): string {
  // The exact name needs no mark: its file is whole. What is looked at is what exists rarely, for a stat that succeeds costs ten that do not.
  const text = read(routes + host, ROUTE_MAX_BYTES)
  if (text !== undefined) return `${host} ${text}`
  // Without the mark a file that is not there yet, of this name or a nearer parent, would be taken for none.
  if (fs.statSync(`${routes}.mark`, MAY_BE_MISSING) === undefined) return 'no_route_table'
  let dot = host.indexOf('.')
  for (let parents = 0; dot !== -1 && parents < WILDCARD_PARENTS_MAX_COUNT; parents += 1) {
    const wildcard = `+${host.slice(dot)}`
    const wild = read(routes + wildcard, ROUTE_MAX_BYTES)
    if (wild !== undefined) return `${wildcard} ${wild}`
    dot = host.indexOf('.', dot + 1)
  }
  return 'no_service'
}

/** The line among those of a prefix file that a path falls under, without its prefix; `main` if none. */
function pick(lines: string[], path: string, main: string): string {
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] as string
    const space = line.indexOf(' ')
    const prefix = line.slice(0, space)
    if (path === prefix || path.startsWith(`${prefix}/`)) return line.slice(space + 1)
  }
  return main
}

/** The route's line for a host and a path, or the code of the refusal. */
function find(routes: string, host: string, rawPath: string, normalPath: string): string {
  const found = routeFile(routes, host)
  const space = found.indexOf(' ')
  if (space === -1) return found
  const text = found.slice(space + 1)
  const main = text.slice(0, -1)
  if (!text.endsWith('\n')) return 'no_route_table'
  // Whether the line is one at all is seen where it is used.
  if (main.indexOf('p', main.lastIndexOf(' ')) === -1) return main
  const prefixes = read(`${routes}${found.slice(0, space)}@prefixes`, PREFIXES_MAX_COUNT * ROUTE_MAX_BYTES)
  if (prefixes === undefined || !prefixes.endsWith('\n')) return 'no_route_table'
  const lines = prefixes.slice(0, -1).split('\n')
  if (lines.length > PREFIXES_MAX_COUNT) return 'no_route_table'
  const line = pick(lines, rawPath, main)
  // An origin may read the path as nginx normalises it: then it must be the same service's.
  return line === pick(lines, normalPath, main) ? line : 'bad_request'
}

/** What the gateway is asked for by: the name nginx routes by and the port the visitor gave; '' if the two places that tell it disagree. */
function authority(host: string, field: string): string {
  if (host.length > HOST_MAX_BYTES || !HOST.test(host)) return ''
  if (field === host) return host
  const colon = field.indexOf(':')
  const name = (colon === -1 ? field : field.slice(0, colon)).toLowerCase()
  const port = colon === -1 ? '' : field.slice(colon)
  if (name !== host && name !== `${host}.`) return ''
  return port === '' || PORT.test(port) ? host + port : ''
}

function encoded(value: string): string {
  return value === '' || PLAIN.test(value) ? value : encodeURIComponent(value).replace(/[!'()*]/g, percent)
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`
}

/** By which door: `upgrade` and `h1` are one socket, `h2` the other. */
function door(r: NginxHTTPRequest, wanted: string, connection: string): string {
  const length = r.headersIn['Content-Length']
  const chunked = r.headersIn['Transfer-Encoding'] !== undefined
  const small = length === undefined ? !chunked : Number(length) <= H1_BODY_MAX_BYTES
  const upgrade = r.headersIn.Upgrade
  // An upgrade may be ignored, so one that can't pass (after a long body) or must not (h2c) is left out instead of refused.
  if (small && upgrade !== undefined && r.httpVersion === '1.1' && UPGRADES.test(connection) && !/h2c/i.test(upgrade)) return 'upgrade'
  if (!small || wanted === 'h2') return 'h2'
  // Over HTTP/2 a body needs neither field and nginx does not tell whether one comes.
  const tellsBody = r.httpVersion.charCodeAt(0) === 49 /* 1.x */ || length !== undefined || r.method === 'GET' || r.method === 'HEAD'
  return tellsBody ? 'h1' : 'h2'
}

/** All that is decided about a request, once: `DOOR SERVICE ENVELOPE`, or `refuse CODE`. */
function route(r: NginxHTTPRequest): string {
  try {
    return decide(r)
  } catch (fault) {
    r.error(`postern: the route table can't be read: ${String(fault)}`)
    return 'refuse no_route_table'
  }
}

function decide(r: NginxHTTPRequest): string {
  const given = r.variables
  const target = given.request_uri as string
  const connection = r.headersIn.Connection === undefined ? '' : String(r.headersIn.Connection)
  const named = authority(given.host as string, given.http_host === undefined ? '' : given.http_host)
  if (named === '' || target.charCodeAt(0) !== 47 /* / */ || target.indexOf('#') !== -1 || (connection !== '' && !CONNECTION.test(connection))) return 'refuse bad_request'
  const query = target.indexOf('?')
  const line = find(given.postern_routes as string, given.host as string, query === -1 ? target : target.slice(0, query), given.uri as string)
  const fields = ROUTE.exec(line)
  if (fields === null) return `refuse ${refusals[line] === undefined ? 'no_route_table' : line}`
  const service = fields[3] as string
  if (fields[1] === 'none') return 'refuse no_service'
  if (fields[1] === 'away') return (fields[4] as string).indexOf('c') === -1 ? 'refuse service_away' : 'refuse no_service'
  if (service === '-') return 'refuse no_route_table'
  return (
    `${door(r, fields[2] as string, connection)} ${service} 1;${given.request_id as string};${service};${given.remote_addr as string};` +
    `${given.remote_port as string};${given.scheme as string};${named};${given.pid as string};${encoded(connection)}`
  )
}

/** Why the visitor gets our page: nginx's own fault with the head, a door that failed, or what the route says. */
function code(r: NginxHTTPRequest): string {
  if (r.variables.status === '431') return 'head_too_large'
  const decided = r.variables.postern_route as string
  if (decided.startsWith('refuse ')) return decided.slice(7)
  const upstream = r.variables.upstream_status
  return upstream !== undefined && upstream.endsWith('504') ? 'gateway_slow' : 'gateway_away'
}

/** `json`, `html` or `text`: what the visitor reads best of the three. */
function language(r: NginxHTTPRequest): string {
  const accept = (r.headersIn.Accept === undefined ? '' : String(r.headersIn.Accept)).toLowerCase()
  const html = accept.indexOf('text/html')
  const json = accept.search(/application\/json|\+json/)
  if (json !== -1 && (html === -1 || json < html)) return 'json'
  return html === -1 ? 'text' : 'html'
}

function body(r: NginxHTTPRequest): string {
  const name = r.variables.postern_code as string
  const refusal = refusals[name] as Refusal
  const uuid = r.variables.request_id as string
  const spoken = language(r)
  if (spoken === 'json') {
    return JSON.stringify({ type: 'about:blank', title: refusal.title, status: refusal.status, detail: refusal.says, code: name, uuid })
  }
  const title = `${refusal.status} ${refusal.title}`
  if (spoken === 'text') return `${title}\n${refusal.says}\ncode: ${name}\nuuid: ${uuid}\n`
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}code{font-size:.9rem}</style>
<h1>${title}</h1>
<p>${refusal.says}</p>
<p><code>code: ${name}</code><br><code>uuid: ${uuid}</code></p>
</html>
`
}

function types(spoken: string): string {
  if (spoken === 'json') return 'application/problem+json'
  return spoken === 'html' ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8'
}

/** Makes the answer of `return` ours: its status, type and fields. */
function headers(r: NginxHTTPRequest): void {
  const name = r.variables.postern_code as string
  const refusal = refusals[name] as Refusal
  r.status = refusal.status
  r.headersOut['Content-Type'] = types(language(r))
  r.headersOut['Cache-Control'] = 'no-store'
  r.headersOut['Proxy-Status'] = `postern; error=${refusal.proxyStatus}; details="${name}"`
  if (refusal.status === 503) r.headersOut['Retry-After'] = RETRY_AFTER_SECONDS
}

export default { route, code, body, headers }

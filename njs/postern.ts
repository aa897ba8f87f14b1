// The endpoint in nginx: which service a request is for, by which door it goes to the gateway, what a visitor is told when it can't (SPEC §16).
//
// Written in the JavaScript that njs 0.7.9 knows: no class, destructuring, spread, Map or Set, one default export. njs makes what stands outside
// of functions, and those themselves, anew for each request: so here are few, and what most requests do not need stands within them.
// Nothing here reads a body, waits, or throws on a way that a visitor can choose: an exception of fs costs as much as 20 whole requests.
import crypto from 'crypto'
import fs from 'fs'

const ROUTE_MAX_BYTES = 512
const IF_THERE = { throwIfNoEntry: false } as const
/** A file that its owner may execute is a short cut of the gateway's (sidecar/routes.ts): a route whose line says `1 up h1 SERVICE -`, a mark whose size tells of wildcards. */
const SHORT_MODE = 0o100100
const MODE_MASK = 0o170100

interface Stat {
  size: number
  mode: number
}

/** A service's policy as far as nginx enforces it (sidecar/policy-file.ts). */
interface Policy {
  v: number
  /** Lowest and highest address of each range, in hexadecimal. */
  deny?: string[][]
  allow?: string[][]
  /** The status of the redirect. */
  https?: number
  maintenance?: string
  methods?: string[]
  /** The field of the token, SHA-256 of each that is right, and what a 401 asks for. */
  field?: string
  tokens?: string[]
  basic?: string[]
  challenge?: string
  bodyMaxBytes?: number
}

/** All that is decided about a request, once: `UPGRADES CONNECTION LINE` (postern-http.conf), without a line if the route is plain, or `refuse CODE`. */
function route(r: NginxHTTPRequest): string {
  try {
    const given = r.variables.postern_file as string
    if (given === '') return 'refuse bad_request'
    const isBare = given.charCodeAt(0) === 47 /* / */
    const file = isBare ? given : given.slice(1)
    const asked = isBare ? '- ' : named(r)
    if (asked === '') return 'refuse bad_request'
    // The exact name needs no mark: its file is whole. What is looked at is what exists rarely, for a stat that succeeds costs ten that do not.
    const stat = fs.statSync(file, IF_THERE)
    // To read a plain route would cost as much as all else here, and the gateway knows whose it is.
    if (stat !== undefined && (stat.mode & MODE_MASK) === SHORT_MODE) return asked
    let line = stat === undefined ? undefined : read(file, ROUTE_MAX_BYTES, stat)
    // Whether the line is one at all is seen where it is used. Without a flag that asks for more, this is all.
    if (line === undefined || line.charCodeAt(line.lastIndexOf(' ') + 1) !== 45 /* - */) line = found(r, file, line)
    return `${asked} ${line}`
  } catch (fault) {
    r.error(`postern: the route table can't be read: ${String(fault)}`)
    return 'refuse no_route_table'
  }
}

/** The text of a file, undefined if there is none; `known`: what was seen of it already. Throws if it is too large or can't be read. */
function read(path: string, maxBytes: number, known?: Stat): string | undefined {
  const stat = known ?? fs.statSync(path, IF_THERE)
  if (stat === undefined) return undefined
  if (stat.size > maxBytes) throw new Error(`${path} is too large`)
  return fs.readFileSync(path, 'utf8')
}

/**
 * What {@link route} does when the file of the very name is not there or its line asks for more: the route's line, whole, or the code of the refusal,
 * with a space and a detail behind it where it has one.
 */
function found(r: NginxHTTPRequest, file: string, text: string | undefined): string {
  /** So many parents of a hostname are asked for a wildcard: bounds what an unknown name costs. */
  const WILDCARD_PARENTS_MAX_COUNT = 4
  /** The mark tells numbers of labels apart up to this one, which stands for more, too. */
  const WILDCARD_LABELS_MAX_COUNT = 9
  /** Its size, if there is no wildcard. */
  const MARK_BYTES = 2

  if (text !== undefined) return flagged(file, text)
  const at = file.lastIndexOf('/') + 1
  const routes = file.slice(0, at)
  // Without the mark a file that is not there yet, of this name or a nearer parent, would be taken for none.
  const mark = fs.statSync(`${routes}.mark`, IF_THERE)
  if (mark === undefined) return 'no_route_table'
  // A bit for each number of labels that wildcards have: so the gateway's own mark tells which are worth a look.
  const lengths = (mark.mode & MODE_MASK) === SHORT_MODE ? mark.size - MARK_BYTES : -1
  if (lengths === 0) return 'no_service'
  let labels = file.slice(at).split('.', WILDCARD_LABELS_MAX_COUNT + WILDCARD_PARENTS_MAX_COUNT + 1).length - 1
  for (let dot = file.indexOf('.', at), parents = 0; dot !== -1 && parents < WILDCARD_PARENTS_MAX_COUNT; dot = file.indexOf('.', dot + 1), parents += 1, labels -= 1) {
    if ((lengths & (1 << ((labels < WILDCARD_LABELS_MAX_COUNT ? labels : WILDCARD_LABELS_MAX_COUNT) - 1))) === 0) continue
    const wildcard = `${routes}+${file.slice(dot)}`
    const line = read(wildcard, ROUTE_MAX_BYTES)
    if (line !== undefined) return flagged(wildcard, line)
  }
  return 'no_service'

  /** What the flags of a line ask for. */
  function flagged(file: string, text: string): string {
    const PREFIXES_MAX_COUNT = 64
    /** A policy with as much of everything as its schema takes is some 12 KB. */
    const POLICY_MAX_BYTES = 16384

    const flags = text.lastIndexOf(' ') + 1
    const line = text.indexOf('p', flags) === -1 ? text : prefixed(r, file, text)
    return line.indexOf('y', line.lastIndexOf(' ') + 1) === -1 ? line : judged(r, file.slice(0, file.lastIndexOf('/') + 1), line)

    /** The line for the paths of the request, when the route has a file of prefixes; `main` is the one for all others. */
    function prefixed(r: NginxHTTPRequest, file: string, main: string): string {
      const prefixes = read(`${file}@prefixes`, PREFIXES_MAX_COUNT * ROUTE_MAX_BYTES)
      if (prefixes === undefined || !prefixes.endsWith('\n') || !main.endsWith('\n')) return 'no_route_table'
      const lines = prefixes.slice(0, -1).split('\n')
      if (lines.length > PREFIXES_MAX_COUNT) return 'no_route_table'
      const target = r.variables.request_uri as string
      const query = target.indexOf('?')
      const line = pick(lines, query === -1 ? target : target.slice(0, query), main)
      // An origin may read the path as nginx normalises it: then it must be the same service's.
      return line === pick(lines, r.variables.uri as string, main) ? line : 'bad_request'

      /** The line among those of a prefix file that a path falls under, without its prefix; `main` if none. */
      function pick(lines: string[], path: string, main: string): string {
        for (let at = 0; at < lines.length; at += 1) {
          const line = lines[at] as string
          const space = line.indexOf(' ')
          const prefix = line.slice(0, space)
          if (path === prefix || path.startsWith(`${prefix}/`)) return `${line.slice(space + 1)}\n`
        }
        return main
      }
    }

    /** The line, if the policy of its service lets the request pass; else the code of the refusal and its detail. Without a whole policy nothing passes. */
    function judged(r: NginxHTTPRequest, routes: string, line: string): string {
      const fields = line.split(' ')
      if (fields.length !== 5) return 'no_route_table'
      // Whoever conceals a service that is away or off conceals that it asks for something.
      if (fields[1] !== 'up' && (fields[4] as string).indexOf('c') !== -1) return line
      const text = read(`${routes}@policy-${fields[3] as string}`, POLICY_MAX_BYTES)
      const policy = text === undefined ? undefined : (JSON.parse(text) as Policy)
      if (policy === undefined || policy.v !== 1) return 'no_route_table'
      const refused = refusedBy(r, policy)
      return refused === '' ? line : refused

      /** Who may not come learns nothing more; nobody says a credential where others can read it. */
      function refusedBy(r: NginxHTTPRequest, policy: Policy): string {
        if ((policy.allow !== undefined || policy.deny !== undefined) && !mayCome(r, policy)) return 'source_denied'
        if (policy.https !== undefined && r.variables.scheme !== 'https') return `https_only ${String(policy.https)}`
        if (policy.maintenance !== undefined) return `maintenance ${policy.maintenance}`
        if (policy.methods !== undefined && policy.methods.indexOf(r.method) === -1) return `method_denied ${policy.methods.join(', ')}`
        if (policy.challenge !== undefined && !proves(r, policy)) return `credential_wrong ${policy.challenge}`
        if (policy.bodyMaxBytes !== undefined && Number(r.variables.content_length) > policy.bodyMaxBytes) return 'body_too_large'
        return ''
      }

      function mayCome(r: NginxHTTPRequest, policy: Policy): boolean {
        let address = (r.rawVariables.binary_remote_addr as Buffer).toString('hex')
        // IPv4 at a listener of IPv6.
        if (address.length === 32 && address.startsWith('00000000000000000000ffff')) address = address.slice(24)
        // What came by a unix socket has none: it is in no range, and nobody knows where it is from.
        if (address.length !== 8 && address.length !== 32) return false
        if (policy.deny !== undefined && isIn(address, policy.deny)) return false
        return policy.allow === undefined || isIn(address, policy.allow)
      }

      function isIn(address: string, ranges: string[][]): boolean {
        for (let at = 0; at < ranges.length; at += 1) {
          const range = ranges[at] as string[]
          const from = range[0] as string
          if (from.length === address.length && address >= from && address <= (range[1] as string)) return true
        }
        return false
      }

      function proves(r: NginxHTTPRequest, policy: Policy): boolean {
        const given = r.headersIn.Authorization
        const authorization = given === undefined ? '' : String(given)
        if (policy.tokens !== undefined) {
          const bearer = /^bearer +([^ ]+)$/i.exec(authorization)
          const token = policy.field === undefined ? (bearer === null ? '' : (bearer[1] as string)) : String(r.headersIn[policy.field])
          if (isOneOf(token, policy.tokens)) return true
        }
        const basic = policy.basic === undefined ? null : /^basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization)
        return basic !== null && isOneOf(Buffer.from(basic[1] as string, 'base64'), policy.basic as string[])
      }

      /** All are compared whole, whatever was found: how long it takes tells nothing of them. */
      function isOneOf(secret: string | Buffer, hashes: string[]): boolean {
        const hash = crypto.createHash('sha256').update(secret).digest('hex')
        let found = false
        for (let at = 0; at < hashes.length; at += 1) {
          const other = hashes[at] as string
          let difference = other.length ^ hash.length
          for (let i = 0; i < hash.length; i += 1) difference |= hash.charCodeAt(i) ^ other.charCodeAt(i)
          if (difference === 0) found = true
        }
        return found
      }
    }
  }
}

/** `UPGRADES CONNECTION` when there is a Connection field, '' if it is no list of names. */
function named(r: NginxHTTPRequest): string {
  const connection = String(r.headersIn.Connection)
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~, \t-]*$/.test(connection)) return ''
  return `${/(^|[, \t])upgrade([, \t]|$)/i.test(connection) ? 'u' : '-'} ${encoded(connection)}`

  function encoded(value: string): string {
    return /^[A-Za-z0-9._~:[\]-]*$/.test(value) ? value : encodeURIComponent(value).replace(/[!'()*]/g, percent)
  }

  function percent(character: string): string {
    return `%${character.charCodeAt(0).toString(16).toUpperCase()}`
  }
}

interface Refusal {
  status: number
  title: string
  proxyStatus: string
  says: string
}

/** What a visitor that is refused reads; leaves what {@link headers} is to make of the head in `$postern_told`. */
function body(r: NginxHTTPRequest): string {
  /** What every 503 tells of when to come again. */
  const RETRY_AFTER_SECONDS = '5'

  let name = code()
  let refusal = refusalOf(name) as Refusal
  if (refusal === undefined) {
    name = codeOfLine()
    refusal = refusalOf(name) as Refusal
  }
  if (name === 'https_only' || name === 'maintenance') refusal = adapted(refusal)
  const spoken = language()
  r.variables.postern_told = `${String(refusal.status)}\nContent-Type\n${types()}\nCache-Control\nno-store\nProxy-Status\npostern; error=${refusal.proxyStatus}; details="${name}"${more()}`
  return text()

  /** The row of protocol/errors.ts for a code that nginx itself answers with; a test holds the two equal. Not a table: all of it would be made for each call. */
  function refusalOf(code: string): Refusal | undefined {
    switch (code) {
      // What those ask who try names, first.
      case 'no_service':
        return row(404, 'Not Found', 'destination_not_found', 'There is no such service here.')
      case 'bad_request':
        return row(400, 'Bad Request', 'http_request_error', 'The request breaks the rules of HTTP.')
      case 'head_too_large':
        return row(431, 'Request Header Fields Too Large', 'http_request_error', 'The head of the request is too large.')
      case 'service_away':
        return row(503, 'Service Unavailable', 'destination_unavailable', 'The service is known, but nobody serves it at the moment.')
      case 'service_off':
        return row(503, 'Service Unavailable', 'destination_unavailable', 'The service is switched off.')
      case 'maintenance':
        return row(503, 'Service Unavailable', 'destination_unavailable', 'The service is being worked on.')
      case 'origin_unhealthy':
        return row(503, 'Service Unavailable', 'destination_unavailable', 'The service is known, but it is not well at the moment.')
      case 'source_denied':
        return row(403, 'Forbidden', 'http_request_denied', 'The service is not for visitors from this address.')
      case 'https_only':
        return row(308, 'Permanent Redirect', 'http_request_denied', 'The service is served over https only.')
      case 'method_denied':
        return row(405, 'Method Not Allowed', 'http_request_denied', 'The service does not take this method.')
      case 'credential_wrong':
        return row(401, 'Unauthorized', 'http_request_denied', 'The service asks for a credential, and the request has none that is right.')
      case 'body_too_large':
        return row(413, 'Payload Too Large', 'http_request_denied', 'The body of the request is larger than the service takes.')
      case 'no_route_table':
        return row(503, 'Service Unavailable', 'proxy_configuration_error', 'The gateway has not published its services yet. Try again in a moment.')
      case 'gateway_away':
        return row(502, 'Bad Gateway', 'destination_unavailable', 'The gateway can not be reached. Try again in a moment.')
      case 'gateway_slow':
        return row(504, 'Gateway Timeout', 'http_response_timeout', 'The gateway did not answer in time.')
    }
    return undefined

    function row(status: number, title: string, proxyStatus: string, says: string): Refusal {
      return { status, title, proxyStatus, says }
    }
  }

  /** Why the visitor gets our page: nginx's own fault with the head, or the first word of what the route says: no code if that is a line. */
  function code(): string {
    if (r.variables.status === '431') return 'head_too_large'
    const decided = r.variables.postern_route as string
    const from = decided.startsWith('refuse ') ? 7 : decided.indexOf(' ', 2) + 1
    const to = decided.indexOf(' ', from)
    return to === -1 ? decided.slice(from) : decided.slice(from, to)
  }

  /** Why, if the route has a line: a door failed, or the line is the reason. */
  function codeOfLine(): string {
    const decided = r.variables.postern_route as string
    const end = decided.indexOf(' ', 2)
    if (end === -1) return doorFailed()
    const line = decided.slice(end + 1)
    const fields = line.endsWith('\n') ? /^1 (up|unhealthy|away|off|none) (h1|h2) (-|[a-z0-9][a-z0-9-]{0,62}) (-|[a-z]+)$/.exec(line.slice(0, -1)) : null
    if (fields === null) return 'no_route_table'
    if (fields[1] === 'none') return 'no_service'
    if (fields[1] !== 'up') return (fields[4] as string).indexOf('c') === -1 ? unserved(fields[1] as string) : 'no_service'
    return fields[3] === '-' ? 'no_route_table' : doorFailed()

    function doorFailed(): string {
      const upstream = r.variables.upstream_status
      return upstream !== undefined && upstream.endsWith('504') ? 'gateway_slow' : 'gateway_away'
    }

    function unserved(state: string): string {
      if (state === 'off') return 'service_off'
      return state === 'unhealthy' ? 'origin_unhealthy' : 'service_away'
    }
  }

  /** What {@link refusedBy} put behind the code. */
  function detail(): string {
    const decided = r.variables.postern_route as string
    return decided.slice(decided.indexOf(' ', decided.indexOf(' ', 2) + 1) + 1)
  }

  /** The row, as the policy wants it. */
  function adapted(usual: Refusal): Refusal {
    if (name === 'https_only') return detail() === '301' ? { status: 301, title: 'Moved Permanently', proxyStatus: usual.proxyStatus, says: usual.says } : usual
    const told = detail()
    const text = decodeURIComponent(told.slice(told.indexOf(' ') + 1))
    return text === '' ? usual : { status: usual.status, title: usual.title, proxyStatus: usual.proxyStatus, says: text }
  }

  /** `json`, `html` or `text`: what the visitor reads best of the three. */
  function language(): string {
    const given = r.headersIn.Accept
    if (given === undefined) return 'text'
    const accept = String(given).toLowerCase()
    const html = accept.indexOf('text/html')
    const json = accept.search(/application\/json|\+json/)
    if (json !== -1 && (html === -1 || json < html)) return 'json'
    return html === -1 ? 'text' : 'html'
  }

  /** Further fields: name, value, name, value, … */
  function more(): string {
    if (name === 'maintenance') return `\nRetry-After\n${detail().split(' ')[0] as string}`
    if (refusal.status === 503) return `\nRetry-After\n${RETRY_AFTER_SECONDS}`
    if (name === 'method_denied') return `\nAllow\n${detail()}`
    if (name === 'credential_wrong') return `\nWWW-Authenticate\n${detail()}`
    if (name !== 'https_only') return ''
    return `\nLocation\nhttps://${(r.variables.postern_authority as string).split(':')[0] as string}${r.variables.request_uri as string}`
  }

  function types(): string {
    if (spoken === 'json') return 'application/problem+json'
    return spoken === 'html' ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8'
  }

  function text(): string {
    const uuid = r.variables.request_id as string
    if (spoken === 'json') {
      return JSON.stringify({ type: 'about:blank', title: refusal.title, status: refusal.status, detail: refusal.says, code: name, uuid })
    }
    const title = `${String(refusal.status)} ${refusal.title}`
    if (spoken === 'text') return `${title}\n${refusal.says}\ncode: ${name}\nuuid: ${uuid}\n`
    return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}code{font-size:.9rem}</style>
<h1>${title}</h1>
<p>${refusal.says.replace(/[&<>"]/g, reference)}</p>
<p><code>code: ${name}</code><br><code>uuid: ${uuid}</code></p>
</html>
`

    function reference(character: string): string {
      return `&#${String(character.charCodeAt(0))};`
    }
  }

}

/** Makes the head of the answer of `return` ours, as {@link body} left it: its status and fields. */
function headers(r: NginxHTTPRequest): void {
  const told = (r.variables.postern_told as string).split('\n')
  // nginx has found a body that breaks the rules of HTTP before it came to ours: the answer is its own.
  if (told.length === 1) return
  r.status = Number(told[0])
  for (let at = 1; at < told.length; at += 2) r.headersOut[told[at] as string] = told[at + 1] as string
}

/** For the log of a request that no gateway answered: whose plain route it went by. */
function service(r: NginxHTTPRequest): string {
  try {
    const given = r.variables.postern_file as string
    if (given === '') return '-'
    const line = read(given.slice(given.indexOf('/')), ROUTE_MAX_BYTES)
    const fields = line === undefined ? null : /^1 up h1 ([a-z0-9][a-z0-9-]{0,62}) -\n$/.exec(line)
    return fields === null ? '-' : (fields[1] as string)
  } catch {
    return '-'
  }
}

export default { route, body, headers, service }

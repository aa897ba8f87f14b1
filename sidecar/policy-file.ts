// What of a service's policy nginx enforces, as its njs reads it: one file of JSON, everything in it ready to be compared (njs/postern.ts).
import { policyFaults, type ServicePolicy } from './policy.ts'
import { readRange } from './ranges.ts'

/** Lets every request pass. */
export const NOTHING_ASKED = '{"v":1}\n'
/** Of no version that njs knows: lets none pass. */
const NOT_UNDERSTOOD = '{"v":0}\n'

/** What a visitor of a service under maintenance is told of when to come again, if the policy does not say. */
const RETRY_AFTER_S = 5

/** The text of the file; undefined if nginx has nothing to enforce. */
export function policyFile(service: string, policy: ServicePolicy): string | undefined {
  if (policyFaults(policy).length > 0) return NOT_UNDERSTOOD
  const { maintenance, sources, token, basic } = policy
  const content = {
    // An empty list of those who may come lets nobody in.
    deny: sources?.deny === undefined ? undefined : pairs(sources.deny),
    allow: sources?.allow === undefined ? undefined : pairs(sources.allow),
    https: policy.https_redirect,
    maintenance: maintenance === undefined ? undefined : `${String(maintenance.retry_after_s ?? RETRY_AFTER_S)} ${encodeURIComponent(maintenance.text ?? '')}`,
    methods: policy.methods === undefined ? undefined : withHead(policy.methods),
    field: token?.field,
    tokens: token?.sha256,
    basic: basic?.sha256,
    challenge: token === undefined && basic === undefined ? undefined : challenge(service, policy),
    bodyMaxBytes: policy.body_max_bytes,
  }
  return Object.values(content).every((value) => value === undefined) ? undefined : `${JSON.stringify({ v: 1, ...content })}\n`
}

/** Where GET is taken, HEAD is (RFC 9110 §9.1). */
const withHead = (methods: readonly string[]): readonly string[] => (methods.includes('GET') && !methods.includes('HEAD') ? [...methods, 'HEAD'] : methods)

function pairs(texts: readonly string[]): string[][] {
  return texts.map((text) => {
    const range = readRange(text)
    if ('reason' in range) throw new Error(`${text} ${range.reason}`)
    return [range.from, range.to]
  })
}

/** What a 401 asks for. A field of one's own has no scheme that is registered: its name is said. */
function challenge(service: string, { token, basic }: ServicePolicy): string {
  const schemes: string[] = []
  if (token !== undefined) schemes.push(token.field === undefined ? `Bearer realm="${service}"` : `Postern-Token realm="${service}", field="${token.field}"`)
  if (basic !== undefined) schemes.push(`Basic realm="${service}", charset="UTF-8"`)
  return schemes.join(', ')
}

// The gateway's own answer to a visitor, in the visitor's language, the same as njs gives for the same code (RFC 9457, RFC 9209).
import { STATUS_CODES } from 'node:http'
import { type ErrorCode, errors } from '../protocol/errors.ts'
import type { Fields } from '../protocol/stream.ts'

/** What every 503 tells of when to come again, unless somebody knows better. */
const RETRY_AFTER_S = 5

export interface Refusal {
  readonly fields: Fields
  readonly body: Buffer
}

/** `accept`: the visitor's Accept field, '' if there is none. `uuid` is '-' where the request did not say one. */
export function refuse(asked: ErrorCode, accept: string, uuid: string, retryAfterS?: number): Refusal {
  // A code that no visitor is meant to see says nothing of the inside either.
  const code = asked.status === 0 ? errors.gateway_fault : asked
  const title = STATUS_CODES[code.status] ?? 'Error'
  const spoken = language(accept)
  const body = Buffer.from(spoken === 'json' ? json(code, title, uuid) : spoken === 'html' ? html(code, title, uuid) : text(code, title, uuid))
  const fields = [
    ':status', String(code.status),
    'Content-Type', spoken === 'json' ? 'application/problem+json' : spoken === 'html' ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8',
    'Cache-Control', 'no-store',
    'Proxy-Status', `postern; error=${code.proxyStatus}; details="${code.name}"`,
  ]
  if (code.status === 503 || retryAfterS !== undefined) fields.push('Retry-After', String(retryAfterS ?? RETRY_AFTER_S))
  return { fields, body }
}

function language(accept: string): 'json' | 'html' | 'text' {
  const lower = accept.toLowerCase()
  const html = lower.indexOf('text/html')
  const json = lower.search(/application\/json|\+json/)
  if (json !== -1 && (html === -1 || json < html)) return 'json'
  return html === -1 ? 'text' : 'html'
}

function json(code: ErrorCode, title: string, uuid: string): string {
  return JSON.stringify({ type: 'about:blank', title, status: code.status, detail: code.says, code: code.name, uuid })
}

function text(code: ErrorCode, title: string, uuid: string): string {
  return `${String(code.status)} ${title}\n${code.says}\ncode: ${code.name}\nuuid: ${uuid}\n`
}

function html(code: ErrorCode, title: string, uuid: string): string {
  const heading = `${String(code.status)} ${title}`
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${heading}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}code{font-size:.9rem}</style>
<h1>${heading}</h1>
<p>${code.says}</p>
<p><code>code: ${code.name}</code><br><code>uuid: ${uuid}</code></p>
</html>
`
}

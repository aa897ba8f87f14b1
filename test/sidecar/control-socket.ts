// Asks a gateway's control server over its socket, with any bytes for a body.
import { request } from 'node:http'
import { join } from 'node:path'

export interface Told {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
  /** The body as JSON; an empty object if it is none. */
  readonly json: Readonly<Record<string, unknown>>
}

/** `body`: a string goes as it stands, anything else as JSON. */
export function ask(runDir: string, method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Told> {
  const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
  const fields = { ...(payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }), ...headers }
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: join(runDir, 'control.sock'), method, path, headers: fields, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (part: string) => (text += part))
      response.on('error', reject)
      response.on('end', () => {
        const isJson = /json/.test(response.headers['content-type'] ?? '')
        resolve({ status: response.statusCode!, headers: response.headers, text, json: isJson ? (JSON.parse(text) as Record<string, unknown>) : {} })
      })
    })
    asked.on('error', reject)
    asked.end(payload)
  })
}

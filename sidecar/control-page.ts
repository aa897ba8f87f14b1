// A page that shows the OpenAPI document to a person: every operation with what it takes and answers. No script, and nothing from elsewhere.

interface Schemas {
  readonly [keyword: string]: unknown
}
interface DocumentedOperation {
  readonly operationId?: string
  readonly summary?: string
  readonly description?: string
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean; readonly schema?: Schemas; readonly description?: string }[]
  readonly requestBody?: { readonly content?: Readonly<Record<string, { readonly schema?: Schemas }>> }
  readonly responses?: Readonly<Record<string, { readonly description?: string; readonly content?: Readonly<Record<string, { readonly schema?: Schemas }>> }>>
}
export interface OpenApi {
  readonly info: { readonly title: string; readonly version: string; readonly description?: string }
  readonly paths?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly components?: { readonly schemas?: Readonly<Record<string, unknown>> }
}

/** What the page may do: show itself. */
export const PAGE_FIELDS = {
  'Content-Type': 'text/html; charset=utf-8',
  'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
} as const

const STYLE = `:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{overflow:auto;padding:.7rem;border:1px solid #8886;border-radius:.3rem}
details{border-bottom:1px solid #8884;padding:.35rem 0}summary{cursor:pointer}
summary b{display:inline-block;min-width:4.5rem}table{border-collapse:collapse}
td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}`

const escape = (text: string): string => text.replace(/[&<>"']/g, (one) => `&#${String(one.charCodeAt(0))};`)

/** A schema for people: links to what has a name of its own. */
const schemaHtml = (schema: Schemas | undefined): string =>
  `<pre>${escape(JSON.stringify(schema ?? {}, null, 1)).replace(/&#34;\$ref&#34;: &#34;#\/components\/schemas\/([A-Za-z]+)&#34;/g, '<a href="#$1">$1</a>')}</pre>`

export function pageOf(document: OpenApi): string {
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, methods]) => Object.entries(methods).map(([method, one]) => operationHtml(method, path, one as DocumentedOperation)))
  const schemas = Object.entries(document.components?.schemas ?? {}).map(([name, schema]) =>
    `<details id="${escape(name)}"><summary><code>${escape(name)}</code></summary>${schemaHtml(schema as Schemas)}</details>`)
  const { title, version, description = '' } = document.info
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(title)}</title><style>${STYLE}</style>
<h1>${escape(title)} <small>${escape(version)}</small></h1><p>${escape(description)}</p><p>The same as OpenAPI 3.1: <a href="/v1/openapi.json"><code>/v1/openapi.json</code></a>.</p>
<h2>Operations</h2>${operations.join('\n')}<h2>Schemas</h2>${schemas.join('\n')}</html>\n`
}

function operationHtml(method: string, path: string, one: DocumentedOperation): string {
  const parameters = (one.parameters ?? []).map(({ name, in: place, required = false, description = '', schema = {} }) => {
    const form = typeof schema.pattern === 'string' ? schema.pattern : ''
    return `<tr><td><code>${escape(name)}</code>${required ? ' *' : ''}<td>${escape(place)}<td><code>${escape(form)}</code><td>${escape(description)}`
  })
  const bodies = Object.entries(one.requestBody?.content ?? {}).map(([type, { schema }]) => `<h4>Takes <code>${escape(type)}</code></h4>${schemaHtml(schema)}`)
  const answers = Object.entries(one.responses ?? {}).map(([status, { description = '', content = {} }]) => {
    const forms = Object.entries(content).map(([type, { schema }]) => `<p><code>${escape(type)}</code></p>${schemaHtml(schema)}`)
    return `<h4>${escape(status)} ${escape(description)}</h4>${forms.join('')}`
  })
  return `<details id="${escape(one.operationId ?? '')}"><summary><b>${escape(method.toUpperCase())}</b> <code>${escape(path)}</code> ${escape(one.summary ?? '')}</summary>
<p>${escape(one.description ?? '')}</p>${parameters.length > 0 ? `<table><tr><th>Parameter<th>In<th>Form<th>${parameters.join('')}</table>` : ''}${bodies.join('')}${answers.join('')}</details>`
}

// How the control server says what is wrong: problem+json (RFC 9457) with a stable code, and the fields that are at fault.
import type { FastifyError, FastifyReply } from 'fastify'

interface FieldFault {
  readonly field: string
  readonly reason: string
}

/** An answer that is a fault of the caller's. */
export class Problem extends Error {
  readonly status: number
  readonly code: string
  readonly faults: readonly FieldFault[]

  constructor(status: number, code: string, detail: string, faults: readonly FieldFault[] = []) {
    super(detail)
    this.status = status
    this.code = code
    this.faults = faults
  }
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  412: 'Precondition Failed',
  413: 'Content Too Large',
  414: 'URI Too Long',
  415: 'Unsupported Media Type',
  421: 'Misdirected Request',
  422: 'Unprocessable Content',
  428: 'Precondition Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  507: 'Insufficient Storage',
}

/** Answers with problem+json. A fault of our own goes to `onFault`, and whoever asked is told no more than that there was one. */
export function answerError(error: FastifyError | Problem, reply: FastifyReply, onFault: (error: Error) => void): FastifyReply {
  const problem = error instanceof Problem ? error : problemOf(error)
  if (problem.status === 500) onFault(error)
  const errors = problem.faults.length > 0 ? problem.faults : undefined
  const body = { type: 'about:blank', title: TITLES[problem.status] ?? 'Error', status: problem.status, detail: problem.message, code: problem.code, errors }
  return reply.code(problem.status).header('Content-Type', 'application/problem+json').send(JSON.stringify(body))
}

/** Where ajv's own words name the object and not the field. */
const SAYS: Readonly<Record<string, string>> = { required: 'is needed', additionalProperties: 'is not known here' }

function problemOf(error: FastifyError): Problem {
  if (error.validation !== undefined) {
    const faults = error.validation.map(({ instancePath, params, message, keyword }) => {
      const missing = keyword === 'required' ? String(params.missingProperty) : keyword === 'additionalProperties' ? String(params.additionalProperty) : ''
      return { field: [instancePath.slice(1).replaceAll('/', '.'), missing].filter((part) => part !== '').join('.'), reason: SAYS[keyword] ?? message ?? keyword }
    })
    return new Problem(400, 'invalid', faults.map(({ field, reason }) => `${field === '' ? (error.validationContext ?? 'it') : field} ${reason}`).join('; '), faults)
  }
  const status = error.statusCode ?? 500
  return status < 500 ? new Problem(status, 'invalid', error.message) : new Problem(500, 'fault', 'the control server made a mistake; it is in its log')
}

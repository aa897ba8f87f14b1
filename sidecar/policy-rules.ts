// What of a service's policy the gateway enforces, ready for the hot path: rates, a counted body, fields that come and go, how agents share (docs/policy.md).
import { fieldName } from '../protocol/field-name.ts'
import type { Fields } from '../protocol/stream.ts'
import type { Bucket, FieldChanges, ServicePolicy } from './policy.ts'
import type { Weights } from './serving.ts'

export interface PolicyRules {
  readonly bodyMaxBytes: number | undefined
  readonly rate: { readonly service?: Bucket; readonly source?: Bucket } | undefined
  readonly request: FieldRules | undefined
  readonly response: FieldRules | undefined
  readonly sticky: boolean
  readonly weights: Weights | undefined
}

const known = new WeakMap<ServicePolicy, PolicyRules | null>()

/** Undefined if the gateway has nothing to enforce. */
export function rulesOf(policy: ServicePolicy): PolicyRules | undefined {
  let rules = known.get(policy)
  if (rules === undefined) {
    rules = read(policy)
    known.set(policy, rules)
  }
  return rules ?? undefined
}

function read(policy: ServicePolicy): PolicyRules | null {
  const { rate, sticky, weights, body_max_bytes: bodyMaxBytes } = policy
  const request = FieldRules.of(policy.request_fields, credentialFields(policy))
  const response = FieldRules.of(policy.response_fields, [])
  if ([rate, weights, bodyMaxBytes, request, response].every((one) => one === undefined) && sticky !== true) return null
  return { bodyMaxBytes, rate, request, response, sticky: sticky === true, weights }
}

/** What a visitor proves to us is no business of the origin, nor of the agent. */
function credentialFields({ token, basic }: ServicePolicy): string[] {
  const fields: string[] = []
  if (token?.field !== undefined) fields.push(token.field)
  if (basic !== undefined || (token !== undefined && token.field === undefined)) fields.push('authorization')
  return fields
}

/** Fields that are taken from a head, then fields that are added to it. */
export class FieldRules {
  private readonly removed: ReadonlySet<string>
  private readonly added: readonly string[]

  private constructor(removed: readonly string[], added: FieldChanges['add']) {
    this.removed = new Set(removed.map((name) => name.toLowerCase()))
    this.added = (added ?? []).flatMap(({ name, value }) => [name, value])
  }

  static of(changes: FieldChanges | undefined, alsoRemoved: readonly string[]): FieldRules | undefined {
    const removed = [...(changes?.remove ?? []), ...alsoRemoved]
    return removed.length === 0 && (changes?.add ?? []).length === 0 ? undefined : new FieldRules(removed, changes?.add)
  }

  /** Pseudo-fields stay. */
  apply(fields: Fields): string[] {
    const kept: string[] = []
    for (let i = 0; i < fields.length; i += 2) if (!this.removed.has(fieldName(fields[i]!))) kept.push(fields[i]!, fields[i + 1]!)
    kept.push(...this.added)
    return kept
  }
}

/** Content-Length as the request says it; undefined if it says none. */
export function lengthOf(fields: Fields): number | undefined {
  for (let i = 0; i < fields.length; i += 2) if (fieldName(fields[i]!) === 'content-length') return Number(fields[i + 1])
  return undefined
}

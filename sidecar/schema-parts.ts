// Short ways to write JSON schemas (schema-type.ts) whose types the compiler sees, and the names that some have in the OpenAPI document.
import type { Schema } from './schema-type.ts'

type Rules = Omit<Schema, 'type' | 'enum' | 'anyOf'>
type Schemas = Readonly<Record<string, Schema>>
type Text = { readonly type: 'string' } & Rules
type Whole = { readonly type: 'integer' } & Rules

export const text = (rules: Rules = {}): Text => ({ type: 'string', ...rules })
type Choice<V> = { readonly type: 'string'; readonly enum: readonly V[] } & Rules

export const choice = <const V extends string>(values: readonly V[], rules: Rules = {}): Choice<V> => ({ type: 'string', enum: values, ...rules })
export const whole = (minimum: number, maximum: number, description = ''): Whole => ({ type: 'integer', minimum, maximum, ...(description === '' ? {} : { description }) })
export const count = (description = ''): Whole => whole(0, Number.MAX_SAFE_INTEGER, description)
export const quantity = (rules: Rules = {}): { readonly type: 'number' } & Rules => ({ type: 'number', ...rules })
export const flag = (rules: Rules = {}): { readonly type: 'boolean' } & Rules => ({ type: 'boolean', ...rules })
export const list = <I extends Schema>(items: I, rules: Rules = {}): { readonly type: 'array'; readonly items: I } & Omit<Rules, 'items'> => ({ type: 'array', ...rules, items })
export const orNull = <S extends Schema>(schema: S): { readonly anyOf: readonly (S | { readonly type: 'null' })[] } => ({ anyOf: [schema, { type: 'null' }] })
/** An object of any members. */
export const anything = (description: string): { readonly type: 'object'; readonly additionalProperties: true; readonly description: string } => {
  return { type: 'object', additionalProperties: true, description }
}

interface MapOf<S extends Schema> {
  readonly type: 'object'
  readonly additionalProperties: S
  readonly propertyNames: Readonly<Record<string, unknown>>
  readonly maxProperties: number
  readonly description: string
}

/** An object of at most so many members, whose names are like `names` and whose values like `values`. */
export const mapOf = <S extends Schema>(names: Schema, values: S, most: number, description: string): MapOf<S> => ({
  type: 'object', additionalProperties: values, propertyNames: { ...names }, maxProperties: most, description,
})

interface Closed<P, R extends PropertyKey> {
  readonly type: 'object'
  readonly properties: P
  readonly required: readonly Extract<R, string>[]
  readonly additionalProperties: false
}

/** An object with these members, and no others. */
export function record<P extends Schemas, O extends Schemas = Record<never, never>>(required: P, optional?: O): Closed<P & O, keyof P> {
  return { type: 'object', properties: { ...required, ...optional } as P & O, required: Object.keys(required), additionalProperties: false } as unknown as Closed<P & O, keyof P>
}

/** The schemas that have a name. */
export const definitions = new Map<string, Schema>()

/** Gives a schema a name. What it returns is a reference, and to the compiler what it refers to. */
export function named<S extends Schema>(name: string, schema: S): S {
  definitions.set(name, schema)
  return { $ref: `${name}#` } as unknown as S
}

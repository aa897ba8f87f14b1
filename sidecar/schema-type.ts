// The TypeScript type of what a JSON schema takes: the schema is written once, as a constant, and validates, documents and types.

/** A schema as it stands in the source: `as const satisfies Schema`. */
export interface Schema {
  /** Without one: what `anyOf` says. */
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean' | 'null'
  readonly anyOf?: readonly Schema[]
  readonly description?: string
  readonly enum?: readonly (string | number)[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly propertyNames?: Readonly<Record<string, unknown>>
  readonly minProperties?: number
  readonly maxProperties?: number
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly uniqueItems?: boolean
  readonly pattern?: string
  readonly format?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
}

type Members<P, R> = { readonly [K in keyof P as K extends R ? K : never]: TypeOf<P[K]> } & { readonly [K in keyof P as K extends R ? never : K]?: TypeOf<P[K]> }

export type TypeOf<S> = S extends { readonly anyOf: readonly (infer A)[] }
  ? TypeOf<A>
  : S extends { readonly enum: readonly (infer E)[] }
  ? E
  : S extends { readonly type: 'object'; readonly properties: infer P; readonly required: readonly (infer R)[] }
    ? Members<P, R>
    : S extends { readonly type: 'object'; readonly properties: infer P }
      ? Members<P, never>
      : S extends { readonly type: 'object'; readonly additionalProperties: infer V }
        ? Readonly<Record<string, V extends true ? unknown : TypeOf<V>>>
        : S extends { readonly type: 'array'; readonly items: infer I }
          ? readonly TypeOf<I>[]
          : S extends { readonly type: 'string' }
            ? string
            : S extends { readonly type: 'integer' | 'number' }
              ? number
              : S extends { readonly type: 'boolean' }
                ? boolean
                : S extends { readonly type: 'null' }
                  ? null
                  : never

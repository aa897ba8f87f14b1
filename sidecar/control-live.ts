// What only the running gateway knows and can do: the questions that the control server asks the main thread, and the forms of its answers.
import type { Reading } from './agent-figures.ts'
import type { Presence } from './presence.ts'
import type { TypeOf } from './schema-type.ts'
import type { ready, session } from './control-schemas.ts'

export type Ready = TypeOf<typeof ready>
/** As the resource shows it, but for when it began: the main thread knows how long ago. */
export type LiveSession = Omit<TypeOf<typeof session>, 'since'>

export interface SessionsAsked {
  /** The cursor of the page before; '' for the first. */
  readonly after: string
  readonly limit: number
  readonly agent: string | undefined
}

/** Each member is a question by its name: what goes over to the main thread is name and arguments. */
export interface LiveGateway {
  ready(): Ready
  sessions(asked: SessionsAsked): { readonly items: readonly LiveSession[]; readonly next: string | null }
  session(id: string): LiveSession | undefined
  /** Asks its agent. Undefined: there is no such session. */
  figures(session: string): Promise<Reading> | undefined
  presence(services: readonly string[]): readonly Presence[]
  /** Ends a session. False: there is none. */
  disconnect(session: string): boolean
  /** Ends one channel of a session, by its place in the session's list. False: there is none. */
  cut(session: string, channel: number): boolean
}

export type Question = { readonly [K in keyof LiveGateway]: { readonly name: K; readonly args: Parameters<LiveGateway[K]> } }[keyof LiveGateway]

/** The same from another thread. */
export type LiveFar = { readonly [K in keyof LiveGateway]: (...args: Parameters<LiveGateway[K]>) => Promise<Awaited<ReturnType<LiveGateway[K]>>> }

const NAMES = ['ready', 'sessions', 'session', 'figures', 'presence', 'disconnect', 'cut'] as const satisfies readonly (keyof LiveGateway)[]

export async function answer(live: LiveGateway, { name, args }: Question): Promise<unknown> {
  return await (live[name] as (...all: unknown[]) => unknown).apply(live, args)
}

/** Makes of a way to ask questions the object that is asked. */
export function farFrom(ask: (question: Question) => Promise<unknown>): LiveFar {
  return Object.fromEntries(NAMES.map((name) => [name, (...args: unknown[]) => ask({ name, args } as unknown as Question)])) as unknown as LiveFar
}

/** For a command that works on the store while no gateway runs. */
export const NO_GATEWAY: LiveGateway = {
  ready: () => ({ ready: false, waits_for: ['the gateway does not run'], exchanges: 0, sessions: 0 }),
  sessions: () => ({ items: [], next: null }),
  session: () => undefined,
  figures: () => undefined,
  presence: (services) => services.map(() => 'away'),
  disconnect: () => false,
  cut: () => false,
}

// Keeps a visitor with one agent: a cookie of the gateway's own that says which, to nobody but the gateway (docs/policy.md).
import { createHmac } from 'node:crypto'
import { fieldName } from '../protocol/field-name.ts'
import type { Fields } from '../protocol/stream.ts'
import type { Member } from './member.ts'

/** 72 bits for each half: nobody finds an agent's id by trying, and no two agents are taken for each other. */
const HALF_CHARACTERS = 12

/** What a request's Cookie fields say to us, and the request without it. */
export interface Kept {
  readonly value: string
  readonly fields: Fields
}

export class Sticky {
  private readonly secret: string
  /** By service, then by session. */
  private readonly values = new WeakMap<Member, Map<string, string>>()
  private readonly names = new Map<string, string>()

  /** `secret` is the gateway's own and stays the same: cookies outlive its process. */
  constructor(secret: string) {
    this.secret = secret
  }

  /** The name of a service's cookie: it tells nothing of the service. */
  nameOf(service: string): string {
    let name = this.names.get(service)
    if (name === undefined) {
      name = `postern_${this.digest(`name ${service}`)}`
      this.names.set(service, name)
    }
    return name
  }

  /** The value for a session of an agent: the agent's half, then that of its process. */
  valueOf(service: string, member: Member): string {
    const values = this.values.get(member) ?? new Map<string, string>()
    this.values.set(member, values)
    let value = values.get(service)
    if (value === undefined) {
      value = `${this.digest(`agent ${service} ${member.agentId}`)}${this.digest(`instance ${service} ${member.agentId} ${member.instance}`)}`
      values.set(service, value)
    }
    return value
  }

  /** Is it the same agent, be it another process of it? */
  isAgent(service: string, member: Member, value: string): boolean {
    return this.valueOf(service, member).slice(0, HALF_CHARACTERS) === value.slice(0, HALF_CHARACTERS)
  }

  /** What the visitor brings, taken out of the request: the origin has no use for it. */
  take(service: string, fields: Fields): Kept {
    const name = this.nameOf(service)
    let value = ''
    const rest: string[] = []
    for (let i = 0; i < fields.length; i += 2) {
      const text = fields[i + 1]!
      if (fieldName(fields[i]!) !== 'cookie' || !text.includes(name)) {
        rest.push(fields[i]!, text)
        continue
      }
      const others = text.split(';').filter((pair) => {
        if (!pair.trimStart().startsWith(`${name}=`)) return true
        value = pair.slice(pair.indexOf('=') + 1).trim()
        return false
      })
      if (others.length > 0) rest.push(fields[i]!, others.join(';').trimStart())
    }
    return { value, fields: rest }
  }

  /** The field for the answer. */
  setCookie(service: string, member: Member, scheme: string): readonly string[] {
    return ['Set-Cookie', `${this.nameOf(service)}=${this.valueOf(service, member)}; Path=/; HttpOnly; SameSite=Lax${scheme === 'https' ? '; Secure' : ''}`]
  }

  private digest(text: string): string {
    return createHmac('sha256', this.secret).update(`postern sticky ${text}`).digest('base64url').slice(0, HALF_CHARACTERS)
  }
}

// The resource of tokens: who may ask the control server from outside, for what, and until when.
import { hashOf } from './control-access.ts'
import { type Desk, known, limitOf, moment, pageOf } from './control-desk.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { page, pageQuery, token as tokenSchema, tokenCreate, tokenId, type TokenShown, tokenWithSecret } from './control-schemas.ts'
import { record } from './schema-parts.ts'
import type { StoredToken } from './store-tokens.ts'

const ID_BYTES = 8
/** 256 bits: nobody chooses or guesses it, so one round of SHA-256 is enough to store it by. */
const SECRET_BYTES = 32
/** Tells what it is where it is found, and scanners of secrets what to look for. */
const PREFIX = 'pt1_'
const params = record({ id: tokenId })

const shown = ({ id, name, scopes, createdAt, expiresAt }: StoredToken): TokenShown => ({ id, name, scopes, created_at: moment(createdAt)!, expires_at: moment(expiresAt) })

/** Makes a token, not yet kept. */
function makeToken(desk: Desk, { name, scopes, expiresAt }: Pick<StoredToken, 'name' | 'scopes' | 'expiresAt'>): { token: StoredToken; secret: string } {
  const { random } = desk.options
  const secret = PREFIX + random(SECRET_BYTES).toString('base64url')
  return { token: { id: random(ID_BYTES).toString('hex'), name, scopes, createdAt: desk.now(), expiresAt }, secret }
}

/** Makes the first token if there is none, for the control hosts; returns its secret, which is told this once. */
export function firstToken(desk: Desk): string | undefined {
  if (desk.store.tokens.page('', 1).length > 0) return undefined
  const { token, secret } = makeToken(desk, { name: 'admin', scopes: ['all'], expiresAt: null })
  const deed = { kind: 'token_created', subject: `tokens/${token.id}`, detail: { name: token.name, scopes: token.scopes } }
  desk.change({ name: 'gateway', scopes: [] }, deed, () => desk.store.tokens.add(token, hashOf(secret)))
  return secret
}

export function tokenOperations(desk: Desk): Operation[] {
  const { store } = desk
  return [
    operation({
      id: 'listTokens', method: 'GET', path: '/v1/tokens', scope: 'all', about: 'The tokens; not their secrets.', query: record({}, pageQuery), answers: { 200: page(tokenSchema) },
      handle: ({ query }) => {
        const limit = limitOf(query)
        return { status: 200, body: pageOf(store.tokens.page(query.after ?? '', limit + 1).map(shown), limit, ({ id }) => id) }
      },
    }),
    operation({
      id: 'createToken', method: 'POST', path: '/v1/tokens', scope: 'all', about: 'Makes a token, and shows its secret this once.', body: tokenCreate, answers: { 201: tokenWithSecret }, creates: true,
      handle: (asked) => desk.create(asked, (remember) => {
        const { name, scopes, expires_at = null } = asked.body
        if (store.tokens.byName(name) !== undefined) throw new Problem(409, 'exists', `there is a token ${name} already`, [{ field: 'name', reason: 'in use' }])
        const { token, secret } = makeToken(desk, { name, scopes, expiresAt: expires_at === null ? null : Date.parse(expires_at) })
        desk.change(asked.who, { kind: 'token_created', subject: `tokens/${token.id}`, detail: { name, scopes, expires_at } }, () => {
          store.tokens.add(token, hashOf(secret))
          remember()
        })
        return Promise.resolve({ status: 201, body: { ...shown(token), secret }, headers: { Location: `/v1/tokens/${token.id}`, 'Cache-Control': 'no-store' } })
      }),
    }),
    operation({
      id: 'readToken', method: 'GET', path: '/v1/tokens/:id', scope: 'all', about: 'One token; not its secret.', params, answers: { 200: tokenSchema },
      handle: ({ params: { id } }) => ({ status: 200, body: shown(known(store.tokens.one(id), `token ${id}`)) }),
    }),
    operation({
      id: 'deleteToken', method: 'DELETE', path: '/v1/tokens/:id', scope: 'all', about: 'Removes a token: what it allowed ends at once.', params, answers: { 204: null },
      handle: ({ params: { id }, who }) => {
        const { name } = known(store.tokens.one(id), `token ${id}`)
        desk.change(who, { kind: 'token_deleted', subject: `tokens/${id}`, detail: { name } }, () => store.tokens.remove(id))
        return { status: 204 }
      },
    }),
  ]
}

// One exchange on its way: finds an agent, sends the request, passes the answer on, and tries another agent where that can do no harm (SPEC §10, §12).
import type { Clock } from '../protocol/clock.ts'
import type { Budget } from '../protocol/credit.ts'
import { type ErrorCode, errors, type Fault, IDEMPOTENT, PosternError } from '../protocol/errors.ts'
import { HEAD_MAX_FIELDS } from '../protocol/limits.ts'
import { type Fields, NO_FIELDS, type Opening, type Stream, type StreamEvents, StreamKind } from '../protocol/stream.ts'
import type { Answer, Exchange, Request } from './carry.ts'
import type { Deadlines, Waiter } from './deadlines.ts'
import type { Directory } from './directory.ts'
import type { Journal, Traced } from './journal.ts'
import type { Member } from './member.ts'
import { lengthOf, type PolicyRules, rulesOf } from './policy-rules.ts'
import type { Rates } from './rates.ts'
import type { Serving } from './serving.ts'
import { sourceOf } from './source.ts'
import type { Sticky } from './sticky.ts'

/** What of a request body is kept so that it can be sent again: what the h1 door takes at most. Larger ones are sent once. */
const HELD_BODY_MAX_BYTES = 65_536
/** Agents that an exchange is sent to at most: what three of them could not take is wrong in itself. */
const TRIES_MAX_COUNT = 3

const EMPTY = Buffer.alloc(0)

/** What the exchanges of a gateway share. */
export interface ExchangeDesk {
  readonly clock: Clock
  /** The gateway's: what is held to be sent again is paid from it. */
  readonly budget: Budget
  readonly directory: Directory
  readonly serving: Serving
  readonly rates: Rates
  readonly sticky: Sticky
  /** For the answer's head. */
  readonly heads: Deadlines
  /** For an agent that may come back. */
  readonly waiting: Deadlines
  readonly waitingMaxCount: number
  /** Hears of each exchange that is over. */
  readonly journal: Pick<Journal, 'over'> | undefined
  /** Did the gateway begin so lately that agents are still to come? */
  readonly young: boolean
  gone(): void
}

export class CarriedExchange implements Exchange, StreamEvents, Waiter, Traced {
  waitsSince = 0
  waitsIn: Deadlines | undefined
  waitsBefore: Waiter | undefined
  waitsAfter: Waiter | undefined
  readonly request: Request
  private readonly desk: ExchangeDesk
  private readonly answer: Answer
  private stream: Stream | undefined
  private member: Member | undefined
  private tried: Member[] | undefined
  private tries = 0
  /** What the service's policy asked for when the request came. */
  private rules: PolicyRules | undefined
  /** The request's fields as the agent gets them. */
  private fields: Fields
  /** What the visitor's cookie says about an agent, if anything is asked of it. */
  private kept: string | undefined
  /** For the journal: the gateway's clock, and 0 as long as it has not come to that. */
  readonly began: number
  sentAt = 0
  headAt = 0
  status = ''
  /** What went wrong, if something did. */
  code: ErrorCode | undefined
  sentBytes = 0
  receivedBytes = 0
  private lastCode: ErrorCode | undefined
  private lastDetail = ''

  /** The request body from its first byte on, as long as it may have to be sent (again); undefined once it need not. */
  private held: Uint8Array[] | undefined = []
  private heldBytes = 0
  private trailers: Fields = NO_FIELDS
  /** The ingress waits for `drain`. */
  private ingressWaits = false
  /** The request is all here. */
  private complete: boolean
  /** The agent reads no more of it. */
  private stopped = false
  /** Something of the answer was passed on: from then on there is this one agent. */
  private passed = false
  private headCame = false
  private answerOver = false
  private over = false

  constructor(desk: ExchangeDesk, request: Request, body: Uint8Array, complete: boolean, answer: Answer) {
    this.desk = desk
    this.request = request
    this.answer = answer
    this.complete = complete
    this.fields = request.fields
    this.sentBytes = body.length
    this.began = desk.clock.now()
    if (body.length > 0) this.hold(body)
  }

  /** Begins it. To be called once. */
  start(): void {
    const { directory, budget } = this.desk
    const service = directory.service(this.request.service)
    if (service?.policy !== undefined) this.rules = rulesOf(service.policy)
    if (this.rules !== undefined && !this.abides(this.rules)) return
    if (budget.full) this.fail(errors.gateway_full, 'windows and held bodies have used up the budget')
    else this.seek()
  }

  /** Does the request keep to the policy? Then its fields are as the policy wants them; else the visitor was told. */
  private abides(rules: PolicyRules): boolean {
    const { service, address, fields } = this.request
    const { bodyMaxBytes, rate } = rules
    if (rate !== undefined) {
      const buckets = [...(rate.service === undefined ? [] : [[service, rate.service] as const]), ...(rate.source === undefined ? [] : [[`${service} ${sourceOf(address)}`, rate.source] as const])]
      const waitS = this.desk.rates.take(buckets)
      if (waitS > 0) {
        this.fail(errors.rate_exceeded, `${service} takes no more from ${address} for ${String(waitS)} s`, waitS)
        return false
      }
    }
    if (bodyMaxBytes !== undefined && (this.sentBytes > bodyMaxBytes || (lengthOf(fields) ?? 0) > bodyMaxBytes)) {
      this.fail(errors.body_too_large, `more than ${String(bodyMaxBytes)} bytes`)
      return false
    }
    if (rules.sticky) {
      const kept = this.desk.sticky.take(service, this.fields)
      this.kept = kept.value
      this.fields = kept.fields
    }
    if (rules.request !== undefined) this.fields = rules.request.apply(this.fields)
    if (this.fields.length <= 2 * HEAD_MAX_FIELDS) return true
    this.fail(errors.head_too_large, 'with the fields that the policy adds')
    return false
  }

  get agent(): string {
    return this.member?.agentId ?? ''
  }

  // --- the ingress's calls -------------------------------------------------------------------------------------------

  write(chunk: Uint8Array): boolean {
    return this.take(chunk, false)
  }

  give(chunk: Uint8Array): boolean {
    return this.take(chunk, true)
  }

  private take(chunk: Uint8Array, given: boolean): boolean {
    if (this.over || this.stopped || this.isTooMuch(chunk)) return true
    if (this.stream === undefined) return this.writeWaiting(chunk)
    if (this.held !== undefined) {
      // Paid from what others do not need: to be able to try again is worth no more than that.
      if (this.heldBytes + chunk.length > HELD_BODY_MAX_BYTES || this.desk.budget.scarce) this.drop()
      else this.hold(chunk)
    }
    // What is held may be wanted again.
    this.ingressWaits = !(given && this.held === undefined ? this.stream.give(chunk) : this.stream.write(chunk))
    return !this.ingressWaits
  }

  /** An upgrade's bytes are no body. */
  private isTooMuch(chunk: Uint8Array): boolean {
    const max = this.rules?.bodyMaxBytes
    this.sentBytes += chunk.length
    if (max === undefined || this.isUpgrade || this.sentBytes <= max) return false
    this.abandon(errors.body_too_large, `more than ${String(max)} bytes`)
    return true
  }

  private get isUpgrade(): boolean {
    return this.request.fields[8] === ':protocol'
  }

  private writeWaiting(chunk: Uint8Array): boolean {
    if (this.desk.budget.full) {
      this.fail(errors.gateway_full, 'the budget was used up while the request waited for an agent')
      return true
    }
    this.hold(chunk)
    this.ingressWaits = this.heldBytes >= HELD_BODY_MAX_BYTES
    return !this.ingressWaits
  }

  end(trailers: Fields = NO_FIELDS): void {
    if (this.over || this.complete) return
    this.complete = true
    this.trailers = trailers
    if (this.stream === undefined) return
    this.sendEnd(this.stream)
    if (this.answerOver) this.finish()
    else if (!this.headCame) this.awaitHead()
  }

  consumed(bytes: number): void {
    this.stream?.consumed(bytes)
  }

  cancel(code: ErrorCode): void {
    if (this.over) return
    this.code = code
    this.finish()
    this.stream?.reset(code, true)
  }

  // --- finding an agent ----------------------------------------------------------------------------------------------

  private seek(): void {
    const { service } = this.request
    if (this.desk.directory.service(service) === undefined) return this.fail(errors.no_service, `no service ${service}`)
    for (;;) {
      const member = this.keeper() ?? this.desk.serving.pick(service, this.tried, this.rules?.weights)
      if (member === undefined) return this.nobody()
      if (this.send(member)) return
      // At its limit of streams.
      this.setAside(member)
    }
  }

  /** The session that the visitor is to stay with, or another one of its agent; none, if neither can take it. */
  private keeper(): Member | undefined {
    const { kept } = this
    if (kept === undefined || kept === '') return undefined
    const { serving, sticky } = this.desk
    const { service } = this.request
    const same = serving.find(service, this.tried, (member) => sticky.valueOf(service, member) === kept)
    return same ?? serving.find(service, this.tried, (member) => sticky.isAgent(service, member, kept))
  }

  private nobody(): void {
    if (this.hopeful) {
      if (this.desk.waiting.count < this.desk.waitingMaxCount) this.desk.waiting.add(this)
      else this.fail(errors.gateway_full, 'too many requests wait for an agent')
    } else if (this.lastCode !== undefined) this.fail(this.lastCode, this.lastDetail)
    else if (this.tried !== undefined) this.fail(errors.refused, 'every agent is at its limit of streams')
    else if (this.desk.serving.presence(this.request.service) === 'unhealthy') this.fail(errors.origin_unhealthy, 'every agent says that its origin is not well')
    else this.fail(errors.service_away, 'no agent serves it')
  }

  /** Is an agent to be expected soon? */
  private get hopeful(): boolean {
    const { serving, young } = this.desk
    const { service } = this.request
    return serving.resuming(service, this.tried) || (young && serving.presence(service) === 'away')
  }

  /** Who serves the service has changed while the exchange waited. */
  reconsider(): void {
    if (this.desk.serving.pick(this.request.service, this.tried) === undefined && this.hopeful) return
    this.desk.waiting.remove(this)
    this.seek()
  }

  private setAside(member: Member): void {
    this.tried ??= []
    this.tried.push(member)
  }

  waitedTooLong(list: Deadlines): void {
    if (list === this.desk.heads) this.abandon(errors.agent_timeout, `no head within ${String(list.waitMs)} ms`)
    else this.fail(this.lastCode ?? errors.service_away, `no agent came within ${String(list.waitMs)} ms`)
  }

  // --- sending -------------------------------------------------------------------------------------------------------

  /** False if the agent takes no stream. Otherwise the exchange is on its way, or has failed. */
  private send(member: Member): boolean {
    const { uuid, service } = this.request
    const { fields } = this
    const held = this.held!
    const ended = this.complete && held.length <= 1 && this.trailers.length === 0
    const opening: Opening = { kind: StreamKind.exchange, uuid, service, fields, extension: NO_FIELDS, body: held[0] ?? EMPTY, ended }
    let stream: Stream | undefined
    try {
      stream = member.session.open(opening, this)
    } catch (error) {
      if (!(error instanceof PosternError)) throw error
      this.fail(error.code, error.message)
      return true
    }
    if (stream === undefined) return false
    this.stream = stream
    this.member = member
    this.tries++
    this.sentAt = this.desk.clock.now()
    this.sendRest(stream, held, ended)
    return true
  }

  private sendRest(stream: Stream, held: readonly Uint8Array[], ended: boolean): void {
    let room = true
    for (let i = 1; i < held.length; i++) room = stream.write(held[i]!)
    if (this.heldBytes > HELD_BODY_MAX_BYTES) this.drop()
    if (this.complete && !ended) this.sendEnd(stream)
    // An upgrade's request direction stays open for as long as the connection lives.
    if (this.complete || this.isUpgrade) this.awaitHead()
    if (room && !this.over) this.letGoOn()
  }

  private sendEnd(stream: Stream): void {
    try {
      stream.end(this.trailers)
    } catch (error) {
      if (!(error instanceof PosternError)) throw error
      this.abandon(error.code, error.message)
    }
  }

  // The time to the head counts from when the request is complete: an upload may take as long as it takes.
  private awaitHead(): void {
    if (!this.over && this.waitsIn === undefined) this.desk.heads.add(this)
  }

  private hold(chunk: Uint8Array): void {
    this.desk.budget.take(chunk.length)
    this.heldBytes += chunk.length
    this.held!.push(chunk)
  }

  private drop(): void {
    this.desk.budget.give(this.heldBytes)
    this.heldBytes = 0
    this.held = undefined
  }

  // --- what the stream tells -----------------------------------------------------------------------------------------

  onHead(fields: Fields, _extension: Fields, body: Uint8Array, ended: boolean): void {
    this.passed = true
    if (this.held !== undefined) this.drop()
    if (isInterim(fields)) {
      if (isSound(fields)) this.answer.interim(fields)
      else this.abandon(errors.agent_protocol, 'an interim head with a field that is none')
      return
    }
    this.headCame = true
    this.headAt = this.desk.clock.now()
    this.status = fields[1]!
    this.receivedBytes = body.length
    this.waitsIn?.remove(this)
    this.answerOver = ended
    this.answer.head(this.rules === undefined ? fields : this.asAsked(fields, this.rules), body, ended)
    if (ended) this.maybeFinish()
  }

  /** The head of an answer with what the policy adds to it and without what it removes. */
  private asAsked(head: Fields, rules: PolicyRules): Fields {
    const { service, fields } = this.request
    const asked = rules.response === undefined ? head : rules.response.apply(head)
    if (!rules.sticky || this.kept === this.desk.sticky.valueOf(service, this.member!)) return asked
    return [...asked, ...this.desk.sticky.setCookie(service, this.member!, fields[3]!)]
  }

  onData(chunk: Uint8Array): void {
    this.receivedBytes += chunk.length
    this.answer.data(chunk)
  }

  onEnd(trailers: Fields): void {
    this.answerOver = true
    this.answer.end(trailers)
    this.maybeFinish()
  }

  onStop(): void {
    this.stopped = true
    this.passed = true
    if (this.held !== undefined) this.drop()
    if (this.answerOver) {
      this.finish()
      this.letGoOn()
      return
    }
    if (!this.headCame) this.awaitHead()
    this.answer.stopped()
  }

  onReset(code: ErrorCode, begun: boolean): void {
    const member = this.member!
    this.stream = undefined
    this.waitsIn?.remove(this)
    if (this.answerOver) {
      this.finish()
      this.letGoOn()
      return
    }
    const shown = member.session.ended || MAY_SAY.has(code.fault) ? code : errors.agent_protocol
    const detail = `agent ${member.agentId}: ${code.name}${begun ? ', begun' : ', not begun'}`
    if (!this.mayTryAgain(code, begun)) return this.fail(shown, detail)
    this.lastCode = shown
    this.lastDetail = detail
    this.setAside(member)
    this.seek()
  }

  onDrain(): void {
    this.letGoOn()
  }

  // Told after the answer's end too: an upload may outlast its answer, and one that waits would wait for ever.
  private letGoOn(): void {
    if (!this.ingressWaits) return
    this.ingressWaits = false
    this.answer.drain()
  }

  private mayTryAgain(code: ErrorCode, begun: boolean): boolean {
    if (this.passed || this.held === undefined || this.tries >= TRIES_MAX_COUNT) return false
    return (code.again === 'always' && !begun) || (code.again !== 'never' && IDEMPOTENT.has(this.request.fields[1]!))
  }

  // --- the end -------------------------------------------------------------------------------------------------------

  private abandon(code: ErrorCode, detail: string): void {
    this.stream?.reset(code, true)
    this.fail(code, detail)
  }

  private fail(code: ErrorCode, detail: string, retryAfterS?: number): void {
    this.code = code
    this.finish()
    this.answer.fail(code, detail, retryAfterS)
  }

  private maybeFinish(): void {
    if (this.answerOver && (this.complete || this.stopped) && !this.over) this.finish()
  }

  // The stream may outlast the exchange: the rest of a body waits in it for credit, and its agent may still stop or reset it.
  private finish(): void {
    if (this.over) return
    this.over = true
    this.waitsIn?.remove(this)
    if (this.held !== undefined) this.drop()
    this.desk.journal?.over(this)
    this.desk.gone()
  }
}

/** Whose fault an agent may say it was. What it says of the gateway's own faults, or of nobody's, is no answer to a visitor. */
const MAY_SAY: ReadonlySet<Fault> = new Set(['agent', 'origin', 'visitor'])

const isInterim = (fields: Fields): boolean => fields[0] === ':status' && fields[1]!.length === 3 && fields[1]!.startsWith('1') && fields[1] !== '101'

/** Are all but the pseudo-field names and values that HTTP knows (RFC 9110 §5.1, §5.5)? */
function isSound(fields: Fields): boolean {
  for (let i = 2; i < fields.length; i += 2) {
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(fields[i]!) || /[\0-\x08\x0a-\x1f\x7f]/.test(fields[i + 1]!)) return false
  }
  return true
}

// What the gateway sets for TLS, held against the agent's own: it may ask for more and never for less, and what would shut the agent out is refused and said.
import type { X509Certificate } from 'node:crypto'
import tls from 'node:tls'
import { type PushedTls, REASON_MAX_CHARACTERS, type RefusedPush } from '../protocol/control.ts'
import { authorityFault, nameFault, oneLine, readAuthorities, versionFault } from './demand-faults.ts'
import { pinFrom, pinOf, type Trust } from './trust.ts'

/** What the gateway's end showed on the last channel that was taken. */
interface Shown {
  readonly certificate: X509Certificate
  /** As TLSSocket.getProtocol() says it. */
  readonly version: string
}

type Peer = Pick<tls.TLSSocket, 'getPeerX509Certificate' | 'getProtocol'>

/** Something that a certificate or a connection can fail; undefined: it does not. */
type Check = (shown: Shown) => string | undefined

/** What else there is, a zero byte above all, Node does not compare but throws at. */
const HOST_NAME = /^[\x21-\x7e]{1,253}$/
const CHECKED = ['ca', 'server_name', 'min_version'] as const
type Checked = (typeof CHECKED)[number]

export interface DemandsOptions {
  /** The agent's own. */
  readonly own: Trust | undefined
  /** None of its channels speaks TLS. */
  readonly without: boolean
}

export class Demands {
  /** What is refused may be something else than before. */
  onChange: () => void = () => undefined
  private readonly options: DemandsOptions
  private settings: PushedTls = {}
  /** What every channel has to meet from now on. */
  private readonly held = new Map<Checked, Check>()
  private readonly refusedBy = new Map<string, string>()
  /** The last login came to nothing with the certificate that the gateway gave. */
  private withheld = false
  private shownCertificate: { readonly cert: string; readonly key: string } | undefined
  private shown: Shown | undefined

  constructor(options: DemandsOptions) {
    this.options = options
  }

  /** The gateway set this. What the channel that is there does not meet itself is no demand on others: it would leave the agent without any. */
  take(settings: PushedTls = {}): void {
    const { own, without } = this.options
    this.settings = settings
    this.held.clear()
    this.refusedBy.clear()
    this.shownCertificate = undefined
    this.withheld = false
    if (without) {
      for (const [name] of this.list) this.refusedBy.set(name, 'none of its channels speaks TLS')
      return
    }
    if (settings.ca !== undefined && own?.ca !== undefined) this.refusedBy.set('tls.ca', 'it has authorities of its own')
    else this.hold('ca', settings.ca, authorityCheck)
    this.hold('server_name', settings.server_name, nameCheck)
    this.hold('min_version', settings.min_version, versionCheck)
    if (settings.pins?.some((pin) => pinFrom(pin) === undefined) === true) this.refusedBy.set('tls.pins', 'one of them is no SHA-256 in base64 or hexadecimal')
    this.takeCertificate(settings, own)
  }

  /** Its session is over. A login goes by the agent's own configuration alone, so that no demand keeps it out for good; the certificate that it shows stays. */
  sessionOver(): void {
    this.held.clear()
  }

  /** No session came of it. It may be the certificate's fault, and whoever gave it can not take it back from an agent that is out: every other try goes without. */
  loginFailed(): void {
    this.withheld = !this.withheld
  }

  /** What the agent shows of itself: its own, or what the gateway gave it. */
  get client(): { readonly cert: string; readonly key: string } | undefined {
    return this.options.own?.client ?? (this.withheld ? undefined : this.shownCertificate)
  }

  /** Why a connection that the agent itself would take is not to be used all the same. */
  fault(peer: Peer): Error | undefined {
    const certificate = peer.getPeerX509Certificate()
    if (certificate === undefined) return undefined
    const shown = { certificate, version: peer.getProtocol() ?? 'none' }
    for (const [what, check] of this.held) {
      const fault = check(shown)
      if (fault !== undefined) return Object.assign(new Error(`the gateway has set tls.${what}, and ${fault}`), { code: 'ERR_TLS_SETTING' })
    }
    const before = JSON.stringify(this.refused)
    this.shown = shown
    if (JSON.stringify(this.refused) !== before) this.onChange()
    return undefined
  }

  get refused(): RefusedPush[] {
    const pins = this.pinsFault()
    const all = [...this.refusedBy, ...(pins === undefined ? [] : [['tls.pins', pins] as const])]
    return all.map(([what, reason]) => ({ what, reason: reason.slice(0, REASON_MAX_CHARACTERS) }))
  }

  /** What is set, for people: by name. */
  get list(): [name: string, value: string][] {
    const { ca, server_name, min_version, pins, client_cert } = this.settings
    const named = { ca: subjects(ca), server_name, min_version, pins: pins?.join(', '), client_cert: subjects(client_cert) }
    return Object.entries(named).flatMap(([name, value]): [string, string][] => (value === undefined ? [] : [[`tls.${name}`, value]]))
  }

  private hold<V>(what: Checked, value: V | undefined, checkOf: (value: V) => Check | string): void {
    if (value === undefined) return
    const check = checkOf(value)
    if (typeof check === 'string') {
      this.refusedBy.set(`tls.${what}`, check)
      return
    }
    const fault = this.shown === undefined ? undefined : check(this.shown)
    if (fault === undefined) this.held.set(what, check)
    else this.refusedBy.set(`tls.${what}`, fault)
  }

  private takeCertificate({ client_cert: cert, client_key: key }: PushedTls, own: Trust | undefined): void {
    if (cert === undefined && key === undefined) return
    try {
      if (own?.client !== undefined) throw new Error('it has a certificate of its own')
      if (cert === undefined || key === undefined) throw new Error('its key, or the certificate itself, is missing')
      tls.createSecureContext({ cert, key })
      this.shownCertificate = { cert, key }
    } catch (error) {
      this.refusedBy.set('tls.client_cert', error instanceof Error ? error.message : String(error))
    }
  }

  /** Only reported: payload is sealed, and who is at the other end was proved by the login. */
  private pinsFault(): string | undefined {
    const { pins = [] } = this.settings
    if (this.shown === undefined || pins.length === 0 || this.refusedBy.has('tls.pins')) return undefined
    const pin = pinOf(this.shown.certificate)
    return pins.some((one) => pinFrom(one) === pin) ? undefined : `the gateway's end shows another key, ${pin}; the channel is used all the same`
  }
}

function authorityCheck(ca: string): Check | string {
  const authorities = readAuthorities(ca)
  return authorities === undefined ? 'it holds no certificates' : ({ certificate }) => authorityFault(certificate, authorities)
}

function nameCheck(name: string): Check | string {
  return HOST_NAME.test(name) ? ({ certificate }) => nameFault(certificate, name) : 'it is no name of a host'
}

function versionCheck(least: string): Check | string {
  return least === '1.2' || least === '1.3' ? ({ version }) => versionFault(version, least) : 'there is no such version'
}

function subjects(pem: string | undefined): string | undefined {
  if (pem === undefined) return undefined
  return readAuthorities(pem)?.map(({ subject }) => oneLine(subject)).join('; ') ?? 'no certificate'
}

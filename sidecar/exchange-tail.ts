// Exchanges as the command line shows them: those that there were as a table, and those that come, until whoever reads them has had enough.
import type { Command } from './command.ts'
import type { Control } from './control-client.ts'
import type { ExchangeShown } from './control-schemas.ts'
import { growingTable, need } from './told.ts'

/** Where a command that goes on prints meanwhile. */
export interface Out {
  /** Resolves when it is taken. False: nobody reads any more. */
  readonly print: (text: string) => Promise<boolean>
  /** What is not part of what was asked for. */
  readonly remark: (text: string) => void
}

export const EXCHANGE_HEAD = ['AT', 'SERVICE', 'AGENT', 'METHOD', 'PATH', 'STATUS', 'ERROR', 'TOOK', 'UUID'] as const
/** A single long path makes the lines after it no wider than this asks for. */
const COLUMN_MAX_CHARACTERS = 48

export const exchangeRow = (one: ExchangeShown): string[] => [
  one.at, one.service, one.agent ?? '-', one.method, one.path, String(one.status ?? '-'), one.error ?? '-', `${one.total_ms.toFixed(1)} ms`, one.uuid,
]

/** Prints each exchange as it comes: a row of a table, or a line of JSON. */
export async function followExchanges({ follow }: Control, { given: { of, agent, error }, json }: Command, { print, remark }: Out): Promise<void> {
  const asked = Object.entries({ exchanges: 'true', service: of, agent, error }).filter((entry): entry is [string, string] => entry[1] !== undefined)
  const rows = growingTable(EXCHANGE_HEAD, COLUMN_MAX_CHARACTERS)
  need(await follow(`/v1/events?${new URLSearchParams(asked).toString()}`, (event, data) => {
    if (event === 'exchanges_left_out') remark(`exchanges that were not taken in time are left out: ${String((data as { count: number }).count)}\n`)
    if (event !== 'exchange') return Promise.resolve(true)
    return print(json ? `${JSON.stringify(data)}\n` : rows([exchangeRow(data as ExchangeShown)]))
  }))
}

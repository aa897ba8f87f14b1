// The backup of the store: all of it as it is now, one SQLite file.
import { createReadStream, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Desk } from './control-desk.ts'
import { type Operation, operation } from './control-operation.ts'
import { Problem } from './control-problem.ts'
import { backupName, isUnwritable } from './store.ts'

const NAME_BYTES = 8

export function backupOperations(desk: Desk): Operation[] {
  const copied = (): number => {
    const path = join(desk.store.folder, backupName(desk.options.random(NAME_BYTES)))
    try {
      desk.store.backup(path)
      return openSync(path, 'r')
    } catch (error) {
      if (!isUnwritable(error)) throw error
      throw new Problem(507, 'store_unwritable', `there is no room for the copy: ${(error as Error).message}`)
    } finally {
      // Whoever reads it has it open; nothing is left when they are done, or the process ends.
      rmSync(path, { force: true })
    }
  }
  return [
    operation({
      id: 'readBackup', method: 'GET', path: '/v1/backup', scope: 'all', about: 'A copy of the store as it is now: whoever has it can be this gateway.', answers: { 200: 'application/vnd.sqlite3' },
      handle: ({ who }) => {
        desk.change(who, { kind: 'store_copied', subject: 'backup' }, () => undefined)
        return { status: 200, body: createReadStream('', { fd: copied() }), headers: { 'Content-Type': 'application/vnd.sqlite3', 'Cache-Control': 'no-store' } }
      },
    }),
  ]
}

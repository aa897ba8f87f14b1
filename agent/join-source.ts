// Where the join string comes from: flag, environment, file, or a question on a terminal that shows nothing of the answer.
import { readFileSync, statSync } from 'node:fs'
import type { ReadStream, WriteStream } from 'node:tty'
import { decodeJoin, type Join } from '../protocol/join.ts'
import { SettingsError } from './settings.ts'

/** In the order in which they are asked. */
export interface JoinSources {
  readonly flag: string | undefined
  readonly flagFile: string | undefined
  readonly environment: string | undefined
  readonly environmentFile: string | undefined
  readonly setting: string | undefined
  readonly settingFile: string | undefined
}

/** A join string is some 300 bytes. */
const ANSWER_MAX_CHARACTERS = 4_096
/** Of a file's mode. A group may be meant to read it. */
const OTHERS_READ = 0o004
/** ESC [ 200 ~ and ESC [ 201 ~: what a terminal puts around pasted text. */
const PASTED = /\p{Cc}\[20[01]~/u

/** The join string of the first source that is there; undefined if none is. `warn` hears of a file that others can read. Throws a {@link SettingsError}. */
export function findJoin(sources: JoinSources, platform: NodeJS.Platform, warn: (detail: string) => void): Join | undefined {
  const fromFile = (path: string | undefined): string | undefined => {
    if (path === undefined) return undefined
    const word = readWord(path)
    // Windows keeps rights elsewhere.
    if (platform !== 'win32' && (statSync(path).mode & OTHERS_READ) !== 0) warn(`everyone on this machine can read ${path}; chmod 600 keeps it to you`)
    return word
  }
  const word =
    sources.flag ?? fromFile(sources.flagFile) ?? sources.environment ?? fromFile(sources.environmentFile) ?? sources.setting ?? fromFile(sources.settingFile)
  return word === undefined ? undefined : readJoin(word)
}

/** Reads a join string. Throws a {@link SettingsError}, which holds nothing of it. */
export function readJoin(word: string): Join {
  try {
    return decodeJoin(word)
  } catch (error) {
    throw new SettingsError(error instanceof Error ? error.message : String(error))
  }
}

function readWord(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new SettingsError(`the join string can not be read: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Asks on a terminal, without echo. Resolves undefined when the person gives up (Ctrl-C, Ctrl-D). */
export function askForJoin(input: ReadStream, output: WriteStream): Promise<string | undefined> {
  return new Promise((resolve) => {
    // Before anybody is asked: a terminal shows what comes sooner.
    input.setRawMode(true)
    output.write('join string (not shown): ')
    let answer = ''
    const done = (result: string | undefined): void => {
      input.off('data', take)
      input.setRawMode(false)
      input.pause()
      output.write('\n')
      resolve(result)
    }
    const take = (chunk: Buffer): void => {
      for (const character of chunk.toString('latin1')) {
        if (character === '\r' || character === '\n') return done(answer)
        if (character === '\x03' || character === '\x04') return done(undefined)
        if (character === '\x7f' || character === '\b') answer = answer.slice(0, -1)
        // A terminal that brackets what is pasted sends escape sequences; none of their letters is lost, so they must go as a whole.
        else if (answer.length < ANSWER_MAX_CHARACTERS) answer = (answer + character).replace(PASTED, '')
      }
    }
    input.on('data', take)
    input.resume()
  })
}

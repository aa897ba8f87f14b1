// The style of this repository as a test: each rule is told with its fix and the places that break it.
import { globSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { basename, dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import { errors } from '../protocol/errors.ts'

const ROOT = resolve(import.meta.dirname, '..')
/** A file longer than this holds more than one idea. */
const FILE_MAX_LINES = 500
const LINE_MAX_COLUMNS = 200
/** A test's table of cases reads better whole. */
const TEST_LINE_MAX_COLUMNS = 260

interface Source {
  readonly path: string
  readonly text: string
  readonly lines: readonly string[]
}

function sources(...patterns: string[]): Source[] {
  return globSync(patterns, { cwd: ROOT }).sort().map((path) => {
    const text = readFileSync(join(ROOT, path), 'utf8')
    return { path, text, lines: text.split('\n') }
  })
}

const FOLDERS = ['protocol', 'njs', 'sidecar', 'agent', 'test', 'bench', 'dev']
const code = sources(...FOLDERS.map((folder) => `${folder}/**/*.ts`)).filter(({ path }) => !path.includes('fixtures/'))
const shell = sources('dev/*.sh', '.ci/run', 'nginx/**/*.conf', 'sidecar/systemd/*')
const SELF = relative(ROOT, import.meta.filename)

/** Every place where `wrong` says what is wrong with a line. */
function places(files: readonly Source[], wrong: (line: string, file: Source) => boolean): string[] {
  return files.flatMap((file) => file.lines.flatMap((line, index) => (wrong(line, file) ? [`${file.path}:${String(index + 1)}: ${line.trim().slice(0, 120)}`] : [])))
}

function rule(name: string, fix: string, broken: readonly string[]): void {
  t.test(name, (t) => {
    t.same(broken, [], `${name}. ${fix}`)
    t.end()
  })
}

interface Import {
  readonly from: string
  /** A repository path (`protocol/frames.ts`) or the name of a package or a module of Node. */
  readonly to: string
}

const IMPORT = /^\s*(?:import|export)\s+(type\s)?(?:[^'"\n]*|\{[^}'"]*\}\s*)\bfrom\s+['"]([^'"]+)['"]|^\s*import\s+['"]([^'"]+)['"]|\bimport\(['"]([^'"]+)['"]\)/gm

const imports: Import[] = code.flatMap(({ path, text }) => [...text.matchAll(IMPORT)].map((match) => {
  const specifier = match[2] ?? match[3] ?? match[4] ?? ''
  return { from: path, to: specifier.startsWith('.') ? join(dirname(path), specifier) : specifier }
}))

function broken(wrong: (each: Import) => boolean): string[] {
  return imports.filter(wrong).map(({ from, to }) => `${from} imports ${to}`)
}

function isIn(path: string, ...folders: string[]): boolean {
  return folders.some((folder) => path.startsWith(`${folder}/`))
}

const MODULES_OF_NODE = new Set(builtinModules.filter((name) => !name.startsWith('node:')))

t.ok(imports.length > code.length, 'imports are found at all')

rule('protocol/ imports neither end, and of Node only node:crypto', 'What it needs of the process comes in by protocol/environment.ts.',
  broken(({ from, to }) => isIn(from, 'protocol') && !isIn(to, 'protocol') && !['node:crypto', '@serenity-kit/opaque'].includes(to)))

rule('agent/ and sidecar/ do not import each other', 'What both need belongs to protocol/.',
  broken(({ from, to }) => (isIn(from, 'agent') && isIn(to, 'sidecar')) || (isIn(from, 'sidecar') && isIn(to, 'agent'))))

rule('njs/ imports only itself, protocol/ and what njs brings', 'It runs in nginx: take a type or a constant from protocol/, or write it in the subset.',
  broken(({ from, to }) => isIn(from, 'njs') && !isIn(to, 'njs', 'protocol') && !['fs', 'crypto', 'querystring'].includes(to)))

rule('what ships imports nothing of test/, bench/ and dev/', 'Move what is needed to the part that it belongs to.',
  broken(({ from, to }) => isIn(from, 'protocol', 'agent', 'sidecar', 'njs') && isIn(to, 'test', 'bench', 'dev')))

rule('modules of Node are named with node:', 'Write node:fs, not fs.',
  broken(({ from, to }) => !isIn(from, 'njs') && MODULES_OF_NODE.has(to)))

rule('a file that ships re-exports nothing', 'No barrels: import from the file where it is defined.',
  places(code.filter(({ path }) => isIn(path, 'protocol', 'sidecar', 'agent', 'njs') && basename(path) !== 'index.ts'), (line) => /^export .* from /.test(line)))

rule('a file begins with a comment that says what it promises', 'One sentence, with its section of protocol/SPEC.md where one applies.',
  [...code.map((file) => ({ file, comment: /^\/\/ \S+/ })), ...shell.map((file) => ({ file, comment: /^#+ \S+/ }))]
    .filter(({ file, comment }) => !comment.test(file.lines[0]?.startsWith('#!') === true ? (file.lines[1] ?? '') : (file.lines[0] ?? '')))
    .map(({ file }) => file.path))

rule('no file is named for being a place for things', 'Name the idea: not utils, helpers, common, misc, shared.',
  code.filter(({ path }) => /\b(utils?|helpers?|common|misc|shared)\b/.test(path)).map(({ path }) => path))

rule(`a file has at most ${String(FILE_MAX_LINES)} lines`, 'Find the second idea in it and give it a file.',
  [...code, ...shell].filter(({ lines }) => lines.length - 1 > FILE_MAX_LINES).map(({ path, lines }) => `${path}: ${String(lines.length - 1)}`))

rule(`a line has at most ${String(LINE_MAX_COLUMNS)} columns`, 'Break it, or name a part of it.',
  places(code, (line, { path }) => line.length > (isIn(path, 'test') ? TEST_LINE_MAX_COLUMNS : LINE_MAX_COLUMNS)))

rule('nothing is left for later', 'Do it, or file it: the code holds no reminders.',
  places([...code, ...shell].filter(({ path }) => path !== SELF), (line) => /\b(TODO|FIXME|XXX|HACK)\b/.test(line)))

rule('a test waits for what it needs', 'Wait for an event, or use until() of test/harness/until.ts; never for time to pass.',
  places(code.filter(({ path }) => isIn(path, 'test') && path !== 'test/harness/until.ts' && path !== SELF),
    (line) => /setTimeout\(\s*(resolve|done|r|res|ok)\b|timers\/promises|\bsleep\(/.test(line)))

rule('the compiler and the linter are not silenced', 'Say it in types, or change the rule for all.',
  places(code.filter(({ path }) => path !== SELF), (line) => /@ts-(ignore|nocheck|expect-error)|(eslint|oxlint)-disable/.test(line)))

rule('nothing names a machine, a folder on it or a registry', 'Paths come from import.meta, os.tmpdir() or an argument.',
  places([...code, ...shell, ...sources('package.json', 'package-lock.json', '*.md', 'docs/*.md', 'bench/*.md', 'protocol/*.md')].filter(({ path }) => path !== SELF),
    (line) => /(^|[\s"'`(=:])\/(work|root|home\/\w+)\/|registry\.\w+js\.org|"resolved":|deb\.debian\.org/.test(line)))

rule('only main files read the arguments, the environment, the clock and chance', 'Take them as parameters (protocol/environment.ts).',
  places(code.filter(({ path }) => isIn(path, 'protocol', 'sidecar', 'agent') && basename(path) !== 'main.ts'),
    (line) => /\bprocess\.(argv|env)\b|\bMath\.random\(|\bDate\.now\(|\bnew Date\(\)/.test(line)))

rule('protocol/ has no time of its own', 'Take it from the clock of protocol/environment.ts.',
  places(code.filter(({ path }) => isIn(path, 'protocol')), (line) => /\b(setTimeout|setInterval|setImmediate|queueMicrotask|performance\.now|process\.nextTick)\(/.test(line)))

const shipping = code.filter(({ path }) => isIn(path, 'protocol', 'sidecar', 'agent', 'njs') && path !== 'protocol/errors.ts')

rule('every error code is produced somewhere', 'Delete its row from protocol/errors.ts, or the code that should produce it is missing.',
  Object.keys(errors).filter((name) => !shipping.some(({ path, text }) =>
    new RegExp(`\\berrors\\.${name}\\b${isIn(path, 'njs') ? `|['"]${name}['"]|\\b${name}:` : ''}`).test(text))))

rule('every error code has a number of its own', 'Numbers are the wire: take a free one.',
  Object.values(errors).filter((one) => Object.values(errors).some((other) => other !== one && other.number === one.number)).map(({ name }) => name))

rule('a row of the error table is named as its key', 'The name is what visitors and logs see.',
  Object.entries(errors).filter(([key, row]) => key !== row.name).map(([key]) => key))

rule('the wire document names the error table and the limits', 'protocol/SPEC.md §12 and §13 point to errors.ts and limits.ts.',
  ['`errors.ts`', '`limits.ts`'].filter((file) => !sources('protocol/SPEC.md').some(({ text }) => text.includes(file))))

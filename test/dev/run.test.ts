// dev/test.ts counts what tap counts, and the commands of dev/run.sh refuse what they don't know.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'

const ROOT = join(import.meta.dirname, '../..')

function execute(command: string, args: readonly string[], cwd: string): Promise<{ code: number; out: string }> {
  // Without the variables by which tap knows that it runs inside of tap.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^_?TAP|^TAPJS/.test(name)))
  return new Promise((resolve) => {
    execFile(command, args, { cwd, env }, (error, out, wrong) => resolve({ code: error === null ? 0 : Number(error.code), out: out + wrong }))
  })
}

const TAP = `import t from '${join(ROOT, 'node_modules/tap/dist/esm/index.js')}'\n`

function project(files: Record<string, string>): { [name: string]: string } {
  return { '.taprc': 'plugin: ["!@tapjs/typescript"]\ndisable-coverage: true\n', 'package.json': '{"type":"module"}', ...files }
}

t.test('the closing line counts passed, failed and skipped; a skipped test tells why', async (t) => {
  const dir = t.testdir(project({
    'a.ts': `${TAP}t.ok(1)\nt.test('not here', { skip: 'no moon tonight' }, () => {})\n`,
    'b.ts': `${TAP}t.ok(1)\nt.equal(1, 2, 'one is two')\n`,
  }))
  const { code, out } = await execute(process.execPath, [join(ROOT, 'dev/test.ts'), 'a.ts', 'b.ts'], dir)
  t.equal(code, 1)
  t.match(out, /^skipped not here: no moon tonight$/m)
  t.match(out, /not ok 2 - one is two/)
  t.match(out, /^FAILED b\.ts/m)
  t.match(out, /^ok {5}a\.ts/m)
  t.match(out, /^2 passed, 1 failed, 1 skipped$/m)
})

t.test('all passed is exit code 0; a file that tests nothing is a failure', async (t) => {
  const dir = t.testdir(project({ 'a.ts': `${TAP}t.ok(1)\n`, 'b.ts': '' }))
  const good = await execute(process.execPath, [join(ROOT, 'dev/test.ts'), 'a.ts'], dir)
  t.equal(good.code, 0)
  t.match(good.out, /^1 passed, 0 failed, 0 skipped$/m)
  const empty = await execute(process.execPath, [join(ROOT, 'dev/test.ts'), 'b.ts'], dir)
  t.equal(empty.code, 1)
})

t.test('an unknown command is refused with the usage', async (t) => {
  for (const args of [[], ['nonsense']]) {
    const { code, out } = await execute('sh', [join(ROOT, 'dev/run.sh'), ...args], ROOT)
    t.equal(code, 2)
    t.match(out, /usage: sh dev\/run\.sh demo\|test/)
  }
})

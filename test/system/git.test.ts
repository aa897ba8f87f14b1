// git over HTTP through all parts: clone, push and clone again, with a pack too large for any buffer.
import { execFile, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import type http from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { Random } from '../protocol/simulation.ts'
import { HOST } from './visitor.ts'
import { startWorld } from './world.ts'

const run = promisify(execFile)
const PACK_BYTES = 8 * 1024 * 1024
const GIT = ['-c', 'user.name=Test', '-c', 'user.email=test@example.com', '-c', 'init.defaultBranch=main']

/** git's own server, as a CGI program (RFC 3875). */
function gitBackend(root: string): http.RequestListener {
  return (request, response) => {
    const url = new URL(request.url!, 'http://origin')
    const child = spawn('git', ['http-backend'], {
      env: {
        ...process.env,
        GIT_PROJECT_ROOT: root,
        GIT_HTTP_EXPORT_ALL: '1',
        REMOTE_USER: 'test',
        PATH_INFO: url.pathname,
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method!,
        CONTENT_TYPE: request.headers['content-type'] ?? '',
        CONTENT_LENGTH: request.headers['content-length'] ?? '',
        HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
        GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
      },
    })
    request.pipe(child.stdin)
    child.stdin.on('error', () => undefined)
    let head = Buffer.alloc(0)
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      child.stdout.off('data', onData)
      const fields = head.toString('latin1', 0, end).split('\r\n').map((line) => line.split(': ') as [string, string])
      const status = fields.find(([name]) => name === 'Status')?.[1] ?? '200'
      response.writeHead(Number.parseInt(status, 10), fields.filter(([name]) => name !== 'Status').flat())
      response.write(head.subarray(end + 4))
      child.stdout.pipe(response)
    }
    child.stdout.on('data', onData)
  }
}

t.test('git clones, pushes a large pack and clones it again', async (t) => {
  const root = t.testdir()
  const git = (...args: string[]): Promise<{ stdout: string }> => run('git', [...GIT, ...args], { cwd: root })
  await git('init', '-q', '--bare', 'repo.git')
  const world = await startWorld(t, { handler: gitBackend(root) })
  const url = `http://127.0.0.1:${String(world.port)}/repo.git`
  const host = ['-c', `http.extraHeader=Host: ${HOST}`]
  await git(...host, 'clone', '-q', url, 'one')
  writeFileSync(join(root, 'one', 'large'), new Random(1).bytes(PACK_BYTES))
  await git('-C', 'one', 'add', 'large')
  await git('-C', 'one', 'commit', '-q', '-m', 'large')
  await git(...host, '-C', 'one', 'push', '-q', url, 'HEAD:main')
  await git(...host, 'clone', '-q', '-b', 'main', url, 'two')
  const hashes = await Promise.all(['one', 'two'].map(async (name) => (await git('-C', name, 'hash-object', 'large')).stdout))
  t.equal(hashes[0], hashes[1])
})

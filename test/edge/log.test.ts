// What nginx's log tells of a service, whether nginx read its route, the gateway said it, or neither could; and that visitors see none of it.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Binary, missing, startNginx } from '../harness/nginx.ts'
import { until } from '../harness/until.ts'
import { get, startStand } from './stand.ts'

const SERVER = `access_log LOG services; include EDGE/postern-server.conf;
  location / { try_files "" $postern_location; }
  location /limited { limit_req zone=none; try_files "" $postern_location; }`

for (const binary of ['debian', 'new'] as const satisfies readonly Binary[]) {
  for (const sockets of [true, false]) {
    t.test(`on nginx ${binary}, the gateway ${sockets ? 'there' : 'away'}`, { skip: missing(binary) ?? false }, async (t) => {
      const stand = await startStand(t, {
        sockets,
        answer: (_, response) => {
          response.setHeader('Postern-Service', 'said')
          response.end('ok')
        },
      })
      stand.route('read.test', '1 up h1 read -\n')
      stand.route('trailers.test', '1 up h2 trailers -\n')
      stand.route('away.test', '1 away h1 away -\n')
      stand.plain('plain.test', '1 up h1 plain -\n')
      stand.plain('odd.test', 'no line')
      const nginx = await startNginx(t, {
        runDir: stand.runDir,
        binary,
        http: "log_format services '$host $status $postern_service'; limit_req_zone $host zone=none:1m rate=1r/m;",
        server: SERVER.replace('LOG', join(stand.runDir, 'services.log')),
        expected: sockets ? [/limiting requests/] : [/connect\(\) to unix:.* failed/, /limiting requests/],
      })
      const lines = (): string[] => readFileSync(join(stand.runDir, 'services.log'), 'latin1').trim().split('\n')
      const ok = sockets ? '200' : '502'
      const said = sockets ? 'said' : 'plain'
      const expected = [`read.test ${ok} read`, `trailers.test ${ok} trailers`, 'away.test 503 -', `plain.test ${ok} ${said}`, `odd.test ${ok} ${sockets ? 'said' : '-'}`, 'unknown.test 404 -']
      for (const line of expected) {
        const { status, fields } = await get(nginx.port, line.split(' ')[0]!)
        t.equal(String(status), line.split(' ')[1])
        t.notMatch(fields, /postern-service/i)
      }
      for (let i = 0; i < 2; i++) await get(nginx.port, 'plain.test', '/limited')
      await until('the log', () => lines().length === expected.length + 2)
      t.same(lines(), [...expected, `plain.test ${ok} ${said}`, 'plain.test 503 plain'])
    })
  }
}

// The origin of every measurement: an nginx that is never the slowest part. /small is 100 bytes, /file is sent by sendfile, /sink/ takes uploads.
import { mkdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { startNginx } from '../dev/nginx.ts'
import type { Processes, Running } from '../dev/processes.ts'

const SMALL_BODY = 'x'.repeat(99)

export async function startOrigin(processes: Processes, dir: string, port: number, fileBytes: number, within?: readonly string[]): Promise<Running> {
  mkdirSync(join(dir, 'files/sink'), { recursive: true })
  const file = await open(join(dir, 'files/file'), 'w')
  // Sparse: the kernel makes its pages on the first read and keeps them, as it would of a file just served.
  await file.truncate(fileBytes)
  await file.close()
  return startNginx(processes, 'origin', {
    dir,
    port,
    ...(within === undefined ? {} : { within }),
    http: `  server {
    listen 127.0.0.1:${String(port)} backlog=4096 reuseport;
    root ${dir}/files;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    location = /small { default_type text/plain; return 200 "${SMALL_BODY}\\n"; }
    location = /file { }
    location /sink/ { dav_methods PUT DELETE; }
  }`,
  })
}

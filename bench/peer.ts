// What a peer of the benchmark is: a way from a visitor to the same origin, started on the same ground as the others.
import type { Processes, Running } from '../dev/processes.ts'

/** What every peer finds. */
export interface Ground {
  readonly processes: Processes
  /** A folder of its own for each peer that asks. */
  folder(name: string): string
  /** The origin: nginx on 127.0.0.1 with /small, /file and /sink/. */
  readonly originPort: number
}

export interface Path {
  /** The visitor's port on 127.0.0.1 and the Host to ask with. */
  readonly port: number
  readonly host: string
  /** The processes whose CPU time and memory are told, by their part; each with what it started itself. */
  readonly parts: Readonly<Record<string, readonly Running[]>>
}

export interface Peer {
  readonly name: string
  /** Versions and settings that the result should name. */
  about(): Promise<string>
  start(ground: Ground): Promise<Path>
}

/** nginx's settings towards a peer that is a plain TCP port: as Postern's own includes have them, nothing buffered. */
export function plainProxy(port: number, upstreamPort: number): string {
  return `  upstream peer {
    server 127.0.0.1:${String(upstreamPort)};
    keepalive 128;
    keepalive_requests 1000000;
  }
  server {
    listen 127.0.0.1:${String(port)} backlog=4096 reuseport;
    client_max_body_size 0;
    location / {
      proxy_pass http://peer;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_buffer_size 16k;
      proxy_buffers 4 16k;
    }
  }`
}

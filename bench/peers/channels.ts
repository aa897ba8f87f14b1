// Postern over each kind of channel, payload sealed: what one costs beside another.
import { channelArguments, http2Server } from '../../dev/channels.ts'
import { edgeParts } from '../../dev/edge.ts'
import { freePort } from '../../dev/free-port.ts'
import { startNginx } from '../../dev/nginx.ts'
import { startAgent, startGateway } from '../../dev/stack.ts'
import type { Peer } from '../peer.ts'

const WHERE: Readonly<Record<string, string>> = {
  websocket: 'through nginx',
  http2: 'through nginx by grpc_pass',
  tcp: 'through nginx as Upgrade: postern',
  'tcp straight': 'at the gateway’s own port',
  sse: 'through nginx',
  'long-poll': 'through nginx',
  pipe: 'through `postern-gateway pipe`',
}

function over(kind: string): Peer {
  return {
    name: kind,
    about: () => Promise.resolve(`agent to gateway ${WHERE[kind] ?? ''}`),
    start: async (ground) => {
      const [port, http2Port, ownPort] = [await freePort(), await freePort(), await freePort()]
      const host = 'channel.localhost'
      const dir = ground.folder(`channel-${kind.replace(' ', '-')}`)
      const more = ['--agents-address', `127.0.0.1:${String(ownPort)}`]
      const gateway = await startGateway(ground.processes, { dir, publicUrl: `http://127.0.0.1:${String(port)}`, policy: 'always', more })
      const { main, http } = await edgeParts(`${dir}/edge`, gateway.runDir, port)
      const nginx = await startNginx(ground.processes, `${kind} nginx`, { dir: `${dir}/nginx`, port, main, http: `${http}\n${http2Server(`${dir}/edge`, http2Port)}` })
      const agent = await startAgent(ground.processes, gateway, {
        id: 'bench', service: 'bench', host, target: String(ground.originPort), more: channelArguments(kind, { runDir: gateway.runDir, http2Port, ownPort }),
      })
      return { port, host, parts: { nginx: [nginx], gateway: [gateway.running], agent: [agent] } }
    },
  }
}

/** The first is what the others are held against. */
export const CHANNELS: readonly Peer[] = Object.keys(WHERE).map(over)

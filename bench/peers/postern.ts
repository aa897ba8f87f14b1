// Postern itself behind nginx, with payload sealed (`always`) or not (`never`).
import { edgeParts } from '../../dev/edge.ts'
import { freePort } from '../../dev/free-port.ts'
import { startNginx } from '../../dev/nginx.ts'
import { startAgent, startGateway } from '../../dev/stack.ts'
import type { Peer } from '../peer.ts'

function postern(policy: 'always' | 'never'): Peer {
  const name = `postern ${policy}`
  return {
    name,
    about: () => Promise.resolve(`this tree, websocket, one connection, policy ${policy}`),
    start: async (ground) => {
      const port = await freePort()
      const host = `${policy}.localhost`
      const dir = ground.folder(name.replace(' ', '-'))
      const gateway = await startGateway(ground.processes, { dir, publicUrl: `http://127.0.0.1:${String(port)}`, policy })
      const nginx = await startNginx(ground.processes, `${name} nginx`, { dir: `${dir}/nginx`, port, ...(await edgeParts(`${dir}/edge`, gateway.runDir, port)) })
      const agent = await startAgent(ground.processes, gateway, { id: 'bench', service: 'bench', host, target: String(ground.originPort) })
      return { port, host, parts: { nginx: [nginx], gateway: [gateway.running], agent: [agent] } }
    },
  }
}

export const posternNever = postern('never')
export const posternAlways = postern('always')

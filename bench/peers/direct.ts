// nginx straight to the origin: what the machine can do without a tunnel.
import { freePort } from '../../dev/free-port.ts'
import { nginxVersion, startNginx } from '../../dev/nginx.ts'
import { type Peer, plainProxy } from '../peer.ts'

export const direct: Peer = {
  name: 'direct',
  about: async () => `${await nginxVersion()} straight to the origin`,
  start: async (ground) => {
    const port = await freePort()
    const nginx = await startNginx(ground.processes, 'direct nginx', { dir: ground.folder('direct'), port, http: plainProxy(port, ground.originPort) })
    return { port, host: 'direct.localhost', parts: { nginx: [nginx] } }
  },
}

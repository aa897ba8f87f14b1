// OpenSSH's `ssh -R` behind the same nginx: an sshd of its own on a port of 127.0.0.1, with keys that live as long as the run.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { userInfo } from 'node:os'
import { freePort } from '../../dev/free-port.ts'
import { startNginx } from '../../dev/nginx.ts'
import { accepts, run } from '../../dev/processes.ts'
import { type Peer, plainProxy } from '../peer.ts'

export const ssh: Peer = {
  name: 'ssh -R',
  about: async () => (await run('sh', ['-c', 'ssh -V 2>&1'])).trim(),
  start: async (ground) => {
    const dir = ground.folder('ssh')
    mkdirSync(dir, { recursive: true })
    const [port, sshPort, forwardedPort] = [await freePort(), await freePort(), await freePort()]
    for (const key of ['host', 'user']) await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(dir, key)])
    copyFileSync(join(dir, 'user.pub'), join(dir, 'authorized'))
    // sshd refuses to start without the folder that its service would make.
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true })
    writeFileSync(join(dir, 'sshd.conf'), `Port ${String(sshPort)}
ListenAddress 127.0.0.1
HostKey ${dir}/host
PidFile ${dir}/sshd.pid
AuthorizedKeysFile ${dir}/authorized
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
AllowTcpForwarding yes
`)
    const sshd = ground.processes.start('sshd', '/usr/sbin/sshd', ['-D', '-e', '-f', join(dir, 'sshd.conf')])
    await ground.processes.until(sshd, 'connection', () => accepts({ port: sshPort }))
    const client = ground.processes.start('ssh', 'ssh', ['-F', 'none', '-N', '-p', String(sshPort), '-i', join(dir, 'user'), '-o', 'IdentitiesOnly=yes', '-o', 'StrictHostKeyChecking=no',
      '-o', `UserKnownHostsFile=${dir}/known`, '-o', 'ExitOnForwardFailure=yes', '-o', 'BatchMode=yes',
      '-R', `127.0.0.1:${String(forwardedPort)}:127.0.0.1:${String(ground.originPort)}`, `${userInfo().username}@127.0.0.1`])
    await ground.processes.until(client, 'forwarded port', () => accepts({ port: forwardedPort }))
    const nginx = await startNginx(ground.processes, 'ssh nginx', { dir: join(dir, 'nginx'), port, http: plainProxy(port, forwardedPort) })
    return { port, host: 'ssh.localhost', parts: { nginx: [nginx], gateway: [sshd], agent: [client] } }
  },
}

import * as fs from 'node:fs'
import type {NamespaceType} from '../document/oci.ts'
import {type Mounted, mounts, read} from '../kernel.ts'
import type {CloneKind} from '../steps/container.ts'

/** Names of namespaces(7) for those of the runtime specification. */
export const KINDS: Record<NamespaceType, CloneKind | 'cgroup'> = {
  mount: 'mnt',
  network: 'net',
  uts: 'uts',
  ipc: 'ipc',
  pid: 'pid',
  user: 'user',
  time: 'time',
  cgroup: 'cgroup',
}

/** What a container's plan depends on, beside its document. Read once; the plan is a pure function of it. */
export interface Machine {
  uid: number
  gid: number
  /** What is mounted. */
  mounts: Mounted[]
  /** The namespaces that this kernel has, by their names in /proc/self/ns. */
  namespaces: string[]
  /** True where cgroup v2 is mounted at /sys/fs/cgroup. */
  cgroup2: boolean
  /** True where the machine's own /sys is mounted. */
  sysfs: boolean
  /** True where the machine's own message queues are mounted. */
  mqueue: boolean
  /** True where newuidmap(1) and newgidmap(1) are installed. */
  newuidmap: boolean
  /** False where setgroups(2) is denied for good, or root is without CAP_SETGID: user_namespaces(7). */
  setgroups: boolean
  /** True in a chroot: there the kernel makes no user namespaces, and "/" is no mount. */
  chrooted: boolean
  /** Settings that keep users from making user namespaces, as sysctl(8) names them. */
  forbids: string[]
}

const CGROUP2_SUPER_MAGIC = 0x63677270

/** The machine as this process sees it. */
export function machine(): Machine {
  const uid = process.getuid!()
  const mounted = mounts('self') ?? []
  return {
    uid,
    gid: process.getgid!(),
    mounts: mounted,
    namespaces: fs.readdirSync('/proc/self/ns'),
    cgroup2: fileSystem('/sys/fs/cgroup') === CGROUP2_SUPER_MAGIC,
    sysfs: fs.existsSync('/sys/kernel'),
    mqueue: fs.existsSync('/dev/mqueue'),
    newuidmap: ['newuidmap', 'newgidmap'].every(name =>
      ['/usr/bin', '/bin'].some(d => fs.existsSync(`${d}/${name}`)),
    ),
    setgroups: read('/proc/self/setgroups') !== 'deny' && (uid !== 0 || hasSetgid()),
    chrooted: !mounted.some(({point}) => point === '/'),
    forbids: [
      ...(sysctl('kernel.unprivileged_userns_clone') === '0' ? ['kernel.unprivileged_userns_clone=1'] : []),
      ...(sysctl('kernel.apparmor_restrict_unprivileged_userns') === '1'
        ? ['kernel.apparmor_restrict_unprivileged_userns=0']
        : []),
      ...(sysctl('user.max_user_namespaces') === '0' ? ['user.max_user_namespaces=10000'] : []),
    ],
  }
}

/** The bit of CAP_SETGID in proc_pid_status(5). */
function hasSetgid(): boolean {
  const [, mask = '0'] = /^CapEff:\t([0-9a-f]+)$/m.exec(read('/proc/self/status') ?? '') ?? []
  return (BigInt(`0x${mask}`) >> 6n) % 2n === 1n
}

function fileSystem(path: string): number | undefined {
  try {
    return fs.statfsSync(path).type
  } catch {
    return undefined
  }
}

function sysctl(name: string): string | undefined {
  return read(`/proc/sys/${name.replaceAll('.', '/')}`)
}

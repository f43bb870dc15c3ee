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
  /** Settings that would let users make user namespaces where they are forbidden, as sysctl(8) takes them. */
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
    // Asked where it matters, which is seldom.
    get sysfs() {
      return fs.existsSync('/sys/kernel')
    },
    get mqueue() {
      return fs.existsSync('/dev/mqueue')
    },
    get newuidmap() {
      return ['newuidmap', 'newgidmap'].every(name =>
        ['/usr/bin', '/bin'].some(d => fs.existsSync(`${d}/${name}`)),
      )
    },
    setgroups: read('/proc/self/setgroups') !== 'deny' && (uid !== 0 || hasSetgid()),
    chrooted: !mounted.some(({point}) => point === '/'),
    forbids: Object.entries(FORBIDDING).flatMap(([name, [when, instead]]) => {
      const file = `/proc/sys/${name.replaceAll('.', '/')}`
      return fs.existsSync(file) && read(file) === when ? [`${name}=${instead}`] : []
    }),
  }
}

/** When nobody, or no user, can make user namespaces, and what would let them; the first two are Debian's and AppArmor's own. */
const FORBIDDING = {
  'kernel.unprivileged_userns_clone': ['0', '1'],
  'kernel.apparmor_restrict_unprivileged_userns': ['1', '0'],
  'user.max_user_namespaces': ['0', '10000'],
}

/** The bit of CAP_SETGID in proc_pid_status(5). */
function hasSetgid(): boolean {
  const [, rest = ''] = (read('/proc/self/status') ?? '').split('\nCapEff:\t')
  const [mask = ''] = rest.split('\n', 1)
  return ((Number.parseInt(mask.slice(-8), 16) >> 6) & 1) === 1
}

function fileSystem(path: string): number | undefined {
  try {
    return fs.statfsSync(path).type
  } catch {
    return undefined
  }
}

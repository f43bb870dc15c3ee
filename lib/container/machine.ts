import * as fs from 'node:fs'

/** What a container's plan depends on, beside its document. Read once; the plan is a pure function of it. */
export interface Machine {
  uid: number
  gid: number
  /** The namespaces that this kernel has, by their names in /proc/self/ns. */
  namespaces: string[]
  /** True where cgroup v2 is mounted at /sys/fs/cgroup. */
  cgroup2: boolean
  /** True where the machine's own message queues are mounted. */
  mqueue: boolean
  /** True where newuidmap(1) and newgidmap(1) are installed. */
  newuidmap: boolean
  /** Settings that keep users from making user namespaces, as sysctl(8) names them. */
  forbids: string[]
}

const CGROUP2_SUPER_MAGIC = 0x63677270

/** The machine as this process sees it. */
export function machine(): Machine {
  return {
    uid: process.getuid!(),
    gid: process.getgid!(),
    namespaces: fs.readdirSync('/proc/self/ns'),
    cgroup2: fileSystem('/sys/fs/cgroup') === CGROUP2_SUPER_MAGIC,
    mqueue: fs.existsSync('/dev/mqueue'),
    newuidmap: ['newuidmap', 'newgidmap'].every(name =>
      ['/usr/bin', '/bin'].some(d => fs.existsSync(`${d}/${name}`)),
    ),
    forbids: [
      ...(sysctl('kernel.unprivileged_userns_clone') === '0' ? ['kernel.unprivileged_userns_clone=1'] : []),
      ...(sysctl('kernel.apparmor_restrict_unprivileged_userns') === '1'
        ? ['kernel.apparmor_restrict_unprivileged_userns=0']
        : []),
      ...(sysctl('user.max_user_namespaces') === '0' ? ['user.max_user_namespaces=10000'] : []),
    ],
  }
}

function fileSystem(path: string): number | undefined {
  try {
    return fs.statfsSync(path).type
  } catch {
    return undefined
  }
}

function sysctl(name: string): string | undefined {
  try {
    return fs.readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8').trim()
  } catch {
    return undefined
  }
}

import * as path from 'node:path'
import {type Configuration, type Mount, OCI_VERSION} from './oci.ts'

/** The search path of every command that hew starts, and of the programs that it looks up inside a root. */
export const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What Docker leaves to a container (moby, oci/caps/defaults.go). */
export const CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
]

/** What runc masks (libcontainer/specconv/example.go): kernel secrets, and files that act on the whole machine. */
export const MASKED = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/sys/firmware',
  '/proc/scsi',
]

export const READ_ONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

const MOUNTS: Mount[] = [
  {destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev']},
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
  },
  {destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev']},
  {destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro']},
  {destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=1777']},
]

/** Who makes a document: root inside is this user outside, on this kind of terminal. */
export interface Caller {
  uid: number
  gid: number
  /** TERM, where there is one. */
  term?: string | undefined
}

/** The caller of this process. */
export function caller(): Caller {
  return {uid: process.getuid!(), gid: process.getgid!(), term: process.env.TERM}
}

/** A name for a host, as hostname(7) allows it. */
function hostname(name: string): string {
  return (
    name
      .replace(/[^A-Za-z0-9.-]/g, '-')
      .replace(/^[-.]+/, '')
      .slice(0, 63) || 'hew'
  )
}

/**
 * The document for a root: complete, so that any OCI runtime runs it as it stands.
 * @param root its absolute path; @param caller who is root inside
 */
export function configurationFor(root: string, {uid, gid, term}: Caller): Configuration {
  return {
    ociVersion: OCI_VERSION,
    process: {
      terminal: false,
      user: {uid: 0, gid: 0},
      args: ['sh'],
      env: [`PATH=${PATH}`, 'HOME=/root', ...(term ? [`TERM=${term}`] : [])],
      cwd: '/',
      capabilities: {bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES},
      noNewPrivileges: true,
    },
    root: {path: root, readonly: false},
    hostname: hostname(path.basename(root)),
    mounts: MOUNTS,
    annotations: {},
    linux: {
      namespaces: (['mount', 'uts', 'ipc', 'network', 'pid', 'cgroup', 'user'] as const).map(type => ({
        type,
      })),
      uidMappings: [{containerID: 0, hostID: uid, size: 1}],
      gidMappings: [{containerID: 0, hostID: gid, size: 1}],
      maskedPaths: MASKED,
      readonlyPaths: READ_ONLY,
    },
  }
}
